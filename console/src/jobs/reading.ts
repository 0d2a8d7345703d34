import { Problem } from "../client/problem.ts";
import type { Job } from "../queries.ts";
import type { ServerEvent } from "./events.ts";

/** What was read of a job so far. Pure: an event in, the next state out. */

/** A job as the stream's last event tells it. */
export type EndedJob = Job & { counted_by?: string | null };

export interface Reading {
  readonly text: string;
  /** What the model thought before it answered, where it does. */
  readonly thinking: string;
  /** The number of the first event that is still to be read. */
  readonly next: number;
  /** The job, once it has ended. */
  readonly job: EndedJob | undefined;
  readonly connection: "idle" | "open" | "reconnecting" | "ended" | "failed";
  /** Why it cannot be read at all. */
  readonly problem: Problem | undefined;
  /** When the first words and the end came, in milliseconds of performance.now(); undefined when nobody was there to see it. */
  readonly firstAt: number | undefined;
  readonly endedAt: number | undefined;
  /** Whether all of it was heard as it came, without a break: only then times mean something. */
  readonly isWhole: boolean;
}

export const UNREAD: Reading = {
  text: "",
  thinking: "",
  next: 0,
  job: undefined,
  connection: "idle",
  problem: undefined,
  firstAt: undefined,
  endedAt: undefined,
  isWhole: true,
};

interface Told {
  seq?: number;
  content?: string;
  thinking?: string;
  status?: number | string;
  code?: string;
  detail?: string;
}

const UNAUTHENTICATED = 401;
const DIVERGED = "incomplete"; // another machine went on with other words than were read: read it again
const GONE = 404;

/** Take an event. Throws a Problem for one that says that reading broke off; `isPassing` tells whether reading on is worth it. */
export function heard(reading: Reading, said: ServerEvent, now: number): Reading {
  const told = JSON.parse(said.data) as Told;
  const next = typeof told.seq === "number" ? Math.max(reading.next, told.seq + 1) : reading.next;
  if (said.event === "text") {
    const [text, thinking] = [reading.text + (told.content ?? ""), reading.thinking + (told.thinking ?? "")];
    const isFirst = reading.text === "" && text !== "" && reading.isWhole;
    return { ...reading, text, thinking, next, ...(isFirst ? { firstAt: now } : {}) };
  }
  if (said.event === "end") {
    const job = told as unknown as EndedJob;
    return { ...reading, text: job.result?.output ?? reading.text, next, job, connection: "ended", endedAt: now };
  }
  if (said.event === "error") throw broken(told);
  return { ...reading, next };
}

function broken(told: Told): Problem {
  const status = told.status === UNAUTHENTICATED ? 503 : Number(told.status ?? 503); // the token ended: reading on renews it
  return new Problem(status, { detail: told.detail ?? "The stream broke off.", code: told.code ?? "http_error" });
}

/** Where to read on after a problem; undefined: nowhere, it stays unread. */
export function afterProblem(reading: Reading, problem: Problem): Reading | undefined {
  if (problem.code === DIVERGED) return { ...UNREAD, isWhole: false, connection: "reconnecting" };
  if (problem.status === GONE || !problem.isPassing) return undefined;
  return { ...reading, connection: "reconnecting", isWhole: false };
}

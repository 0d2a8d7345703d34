import type { components } from "../client/serve.d.ts";

/** What the platform says on `/ws/dashboard/` (docs/concepts/live-updates.md), as far as the console listens. */

export type JobRow = components["schemas"]["JobRow"];
export type Figures = components["schemas"]["Stats"] & { waiting_jobs?: number };

export interface ModelNodes {
  name: string;
  nodes: number;
}

/** Of a job that was told of before, what can have changed. */
export type JobNews = Pick<JobRow, "id" | "status"> & Partial<JobRow>;

export type Message =
  | { type: "authenticated" }
  | { type: "jobs_update"; seq: number; jobs: JobRow[] }
  | { type: "job_update"; seq: number; job: JobNews }
  | ({ type: "stats_update" } & Figures)
  | { type: "models_update"; models: ModelNodes[] }
  | { type: "balance_update" }
  | { type: "provider_stats_update" }
  | { type: "beat"; seq: number }
  | { type: "pong" }
  | { type: "error"; code: string; detail: string };

/** Read a frame: one message, or a list of them. What is none of ours is left out: a newer platform may say more. */
export function messagesOf(frame: unknown): Message[] {
  if (typeof frame !== "string") return [];
  try {
    const said: unknown = JSON.parse(frame);
    const all = Array.isArray(said) ? said : [said];
    return all.filter((one): one is Message => typeof one === "object" && one !== null && typeof (one as Message).type === "string");
  } catch {
    return [];
  }
}

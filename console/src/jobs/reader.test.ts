import { afterEach, describe, expect, it, vi } from "vitest";
import { Problem } from "../client/problem.ts";
import { JobReader, type ReaderWorld } from "./reader.ts";

const text = (seq: number, content: string) => `id: ${seq}\nevent: text\ndata: ${JSON.stringify({ seq, content })}\n\n`;
const end = (seq: number, output: string) =>
  `event: end\ndata: ${JSON.stringify({ seq, id: "job_1", status: "COMPLETED", cost: "1.00", result: { output } })}\n\n`;
const error = (seq: number, status: number, code: string) =>
  `event: error\ndata: ${JSON.stringify({ seq, status, code, detail: "broke" })}\n\n`;
const stream = (...pieces: string[]) => new Response(pieces.join(""), { headers: { "Content-Type": "text/event-stream" } });

/** Answers one after the other; a function throws or waits. */
function world(answers: (Response | (() => Promise<Response>))[]) {
  const asked: number[] = [];
  const ended = vi.fn();
  const made: ReaderWorld = {
    open: async (from) => {
      asked.push(from);
      const next = answers.shift();
      if (next === undefined) throw new Error("asked too often");
      return typeof next === "function" ? next() : next;
    },
    ended,
    now: () => 5,
    random: () => 0,
  };
  return { reader: new JobReader(made), asked, ended };
}

const settled = (reader: JobReader) =>
  vi.waitFor(() => {
    if (!["ended", "failed"].includes(reader.state().connection)) throw new Error(reader.state().connection);
  });

afterEach(() => vi.useRealTimers());

describe("a job's answer", () => {
  it("is read to its end", async () => {
    const { reader, asked, ended } = world([stream(text(1, "Hel"), text(2, "lo"), end(3, "Hello"))]);
    reader.subscribe(() => undefined);
    await settled(reader);
    expect([reader.state().text, reader.state().job?.cost, reader.state().firstAt, asked]).toEqual(["Hello", "1.00", 5, [0]]);
    expect(ended).toHaveBeenCalledOnce();
  });

  it("is read on from where the stream broke, nothing twice", async () => {
    const { reader, asked } = world([
      stream(text(0, "Hel"), text(1, "lo")),
      () => Promise.reject(new Problem(0, { detail: "no answer" })),
      stream(text(2, " you"), end(3, "Hello you")),
    ]);
    reader.subscribe(() => undefined);
    await settled(reader);
    expect([reader.state().text, asked, reader.state().isWhole]).toEqual(["Hello you", [0, 2, 2], false]);
  });

  it("is read again from the beginning when another machine went on otherwise", async () => {
    const { reader, asked } = world([stream(text(0, "Hel"), error(1, 502, "incomplete")), stream(text(0, "Good day"), end(1, "Good day"))]);
    reader.subscribe(() => undefined);
    await settled(reader);
    expect([reader.state().text, asked]).toEqual(["Good day", [0, 0]]);
  });

  it("is read on when the token ended meanwhile", async () => {
    const { reader, asked } = world([stream(text(0, "Hel"), error(1, 401, "token_not_valid")), stream(end(1, "Hello"))]);
    reader.subscribe(() => undefined);
    await settled(reader);
    expect([reader.state().text, asked]).toEqual(["Hello", [0, 1]]);
  });

  it("is given up when there is no such job, and tried again on demand", async () => {
    const gone = new Response(JSON.stringify({ status: 404, code: "not_found", detail: "none" }), { status: 404 });
    const { reader } = world([gone, stream(end(0, "Hello"))]);
    reader.subscribe(() => undefined);
    await settled(reader);
    expect([reader.state().connection, reader.state().problem?.code]).toEqual(["failed", "not_found"]);
    reader.again();
    await vi.waitFor(() => expect(reader.state().text).toBe("Hello"));
  });

  it("is left when nobody looks, and read on from there when somebody does", async () => {
    vi.useFakeTimers();
    const silent = () => new Promise<Response>(() => undefined);
    const { reader, asked } = world([stream(text(0, "Hel")), silent, stream(text(1, "lo"), end(2, "Hello"))]);
    const leave = reader.subscribe(() => undefined);
    await vi.waitFor(() => expect(asked).toEqual([0, 1]));
    leave();
    await vi.advanceTimersByTimeAsync(1500);
    expect(reader.state().connection).toBe("idle");
    reader.subscribe(() => undefined);
    await vi.advanceTimersByTimeAsync(100);
    expect([reader.state().text, asked]).toEqual(["Hello", [0, 1, 1]]);
  });
});

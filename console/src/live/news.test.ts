import { describe, expect, it } from "vitest";
import { type JobRow, messagesOf } from "./messages.ts";
import { type News, NOTHING, told } from "./news.ts";

function job(id: string, more: Partial<JobRow> = {}): JobRow {
  const created_at = `2026-01-01T00:00:${id.padStart(2, "0")}Z`;
  return { id, status: "PENDING", prompt: "Hello", model: "m", cost: null, created_at, completed_at: null, ...more };
}

const hear = (news: News, ...frames: unknown[]) => frames.flatMap((frame) => messagesOf(JSON.stringify(frame))).reduce(told, news);

describe("the news", () => {
  it("begins with a page, and goes on with what changes", () => {
    const news = hear(
      NOTHING,
      { type: "jobs_update", seq: 7, jobs: [job("2"), job("1")] },
      { type: "job_update", seq: 8, job: { id: "1", status: "RUNNING" } },
      { type: "job_update", seq: 9, job: { id: "1", status: "COMPLETED", cost: "1.00", completed_at: "2026-01-01T00:01:00Z" } },
    );
    expect(news.seq).toBe(9);
    expect(news.jobs.map(({ id, status, cost }) => [id, status, cost])).toEqual([
      ["2", "PENDING", null],
      ["1", "COMPLETED", "1.00"],
    ]);
    expect(news.jobs[1]?.prompt).toBe("Hello");
  });

  it("puts a new job to the front, each once", () => {
    const page = hear(NOTHING, { type: "jobs_update", seq: 1, jobs: [job("1")] });
    const news = hear(
      page,
      { type: "job_update", seq: 2, job: job("3") },
      { type: "job_update", seq: 3, job: job("2") },
      { type: "job_update", seq: 4, job: job("3") },
    );
    expect(news.jobs.map(({ id }) => id)).toEqual(["3", "2", "1"]);
  });

  it("leaves alone what it knows too little of", () => {
    expect(hear(NOTHING, { type: "job_update", seq: 5, job: { id: "9", status: "RUNNING" } })).toEqual({ ...NOTHING, seq: 5 });
  });

  it("hears several messages in one frame, and how the cluster is", () => {
    const news = hear(NOTHING, [
      { type: "stats_update", active_nodes: 2, total_jobs: 5, completed_jobs: 4, available_models: 1, waiting_jobs: 0 },
      { type: "models_update", models: [{ name: "m", nodes: 2 }] },
      { type: "beat", seq: 3 },
    ]);
    expect(news).toMatchObject({ seq: 3, figures: { active_nodes: 2 }, models: [{ name: "m", nodes: 2 }] });
    expect(news.figures).not.toHaveProperty("type");
  });

  it("never goes back behind what it heard", () => {
    expect(hear({ ...NOTHING, seq: 9 }, { type: "beat", seq: 4 }).seq).toBe(9);
  });

  it.each(["", "{", "null", "[1, null]", '"text"'])("is not led astray by %j", (frame) => {
    expect(messagesOf(frame)).toEqual([]);
  });
});

import { QueryClient } from "@tanstack/react-query";
import { beforeEach, describe, expect, it } from "vitest";
import { keys } from "../queries.ts";
import { cacheTold } from "./cache.ts";
import { NOTHING } from "./news.ts";

let queries: QueryClient;
const isStale = (key: readonly unknown[]) => queries.getQueryState(key)?.isInvalidated;
const row = (id: string, status: string) => ({
  id,
  status,
  prompt: "Hello",
  model: "m",
  cost: null,
  created_at: "2026-01-01T00:00:00Z",
  completed_at: null,
});

beforeEach(() => {
  queries = new QueryClient();
  for (const key of [keys.wallet, keys.profile, keys.models, keys.earnings, keys.providerStats]) queries.setQueryData(key, {});
  queries.setQueryData(keys.job("job_1"), { id: "job_1", status: "PENDING", prompt: "Hello, all of it", result: null });
  queries.setQueryData([...keys.jobs, {}], {
    pages: [
      { results: [row("job_2", "PENDING")], next: "c" },
      { results: [row("job_1", "PENDING")], next: null },
    ],
    pageParams: [],
  });
});

describe("the cache", () => {
  it("shows a job's state wherever the job is shown", () => {
    cacheTold(queries, [{ type: "job_update", seq: 1, job: { id: "job_1", status: "RUNNING" } }], {
      ...NOTHING,
      jobs: [row("job_1", "PENDING") as never],
    });
    expect(queries.getQueryData(keys.job("job_1"))).toMatchObject({ status: "RUNNING", prompt: "Hello, all of it" });
    expect(queries.getQueryData([...keys.jobs, {}])).toMatchObject({
      pages: [{ results: [{ status: "PENDING" }] }, { results: [{ status: "RUNNING", prompt: "Hello" }] }],
    });
    expect(isStale(keys.job("job_1"))).toBe(false);
    expect(isStale(keys.wallet)).toBe(false);
  });

  it("asks for the answer when a job has ended", () => {
    cacheTold(queries, [{ type: "job_update", seq: 1, job: { id: "job_1", status: "COMPLETED", cost: "1.00" } }], NOTHING);
    expect(isStale(keys.job("job_1"))).toBe(true);
  });

  it("asks for the wallet when a job came from elsewhere, and when one was settled", () => {
    cacheTold(queries, [{ type: "job_update", seq: 1, job: row("job_9", "PENDING") as never }], NOTHING);
    expect(isStale(keys.wallet)).toBe(true);
    queries.setQueryData(keys.wallet, {});
    cacheTold(queries, [{ type: "balance_update" }], NOTHING);
    expect([isStale(keys.wallet), isStale(keys.profile), isStale(keys.earnings)]).toEqual([true, true, false]);
  });

  it("takes figures as they are told, and asks for what is only hinted at", () => {
    cacheTold(
      queries,
      [{ type: "stats_update", active_nodes: 2, total_jobs: 1, completed_jobs: 1, available_models: 1, waiting_jobs: 3 }],
      NOTHING,
    );
    expect(queries.getQueryData(keys.stats)).toEqual({ active_nodes: 2, total_jobs: 1, completed_jobs: 1, available_models: 1 });
    cacheTold(queries, [{ type: "provider_stats_update" }, { type: "models_update", models: [] }], NOTHING);
    expect([isStale(keys.earnings), isStale(keys.providerStats), isStale(keys.models)]).toEqual([true, true, true]);
  });

  it("keeps the open jobs true by themselves", () => {
    const row = {
      id: "job_1",
      status: "PENDING" as const,
      prompt: "",
      model: "m",
      cost: null,
      created_at: "2026-01-01",
      completed_at: null,
    };
    cacheTold(queries, [{ type: "job_update", seq: 1, job: row }], NOTHING);
    expect(queries.getQueryData(keys.openJobs)).toBeUndefined(); // nobody has asked yet
    queries.setQueryData(keys.openJobs, []);
    cacheTold(queries, [{ type: "job_update", seq: 2, job: row }], NOTHING);
    cacheTold(queries, [{ type: "job_update", seq: 3, job: { id: "job_1", status: "COMPLETED", cost: "1.00" } }], NOTHING);
    cacheTold(queries, [{ type: "job_update", seq: 4, job: { id: "job_2", status: "RUNNING" } }], NOTHING);
    expect(queries.getQueryData(keys.openJobs)).toEqual([{ ...row, status: "COMPLETED", cost: "1.00" }]);
  });

  it("has the lists asked for again when a break was too long to be told", () => {
    queries.setQueryData(keys.openJobs, []);
    cacheTold(queries, [{ type: "jobs_update", seq: 9, jobs: [] }], NOTHING);
    expect(queries.getQueryState(keys.openJobs)?.isInvalidated).toBe(false);
    cacheTold(queries, [{ type: "jobs_update", seq: 9, jobs: [] }], { ...NOTHING, seq: 5 });
    expect(queries.getQueryState(keys.openJobs)?.isInvalidated).toBe(true);
  });
});

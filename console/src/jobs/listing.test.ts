import { describe, expect, it } from "vitest";
import type { JobRow } from "../live/messages.ts";
import { listed, openOf, together } from "./listing.ts";

const row = (number: number, status: JobRow["status"] = "COMPLETED", model = "m"): JobRow => ({
  id: `job_${String(number).padStart(3, "0")}`,
  status,
  prompt: "",
  model,
  cost: null,
  created_at: `2026-01-01T00:00:${String(number).padStart(2, "0")}+00:00`,
  completed_at: null,
});
const ids = (rows: readonly JobRow[]) => rows.map((one) => Number(one.id.slice(4)));

describe("lists of jobs", () => {
  it("hold each job once, the newest first, an end before what was known earlier", () => {
    const rows = together([row(1, "COMPLETED"), row(2, "PENDING")], [row(2, "RUNNING"), row(1, "RUNNING"), row(3, "PENDING")]);
    expect([ids(rows), rows.map((one) => one.status)]).toEqual([
      [3, 2, 1],
      ["PENDING", "RUNNING", "COMPLETED"],
    ]);
    expect(ids(openOf(rows))).toEqual([3, 2]);
  });

  it("take what is new at the top, and nothing that comes with a later page", () => {
    const pages = [{ results: [row(9), row(8)], next: "more" }];
    expect(ids(listed(pages, [row(11), row(10), row(8), row(7)]))).toEqual([11, 10, 9, 8]);
    expect(ids(listed([...pages, { results: [row(7)], next: null }], [row(11), row(6)]))).toEqual([11, 9, 8, 7, 6]);
  });

  it("show each of 45 jobs once while new ones arrive between the pages (G16)", () => {
    const old = Array.from({ length: 45 }, (_, at) => row(45 - at));
    const pages = [0, 20, 40].map((from) => ({ results: old.slice(from, from + 20), next: from < 40 ? "more" : null }));
    const arriving = [row(48, "PENDING"), row(47, "PENDING"), row(46, "PENDING"), ...old.slice(0, 25)];
    expect(ids(listed(pages, arriving))).toEqual(Array.from({ length: 48 }, (_, at) => 48 - at));
  });

  it("keep to their filter when a job's state changes", () => {
    const pages = [{ results: [row(2, "FAILED"), row(1, "FAILED")], next: null }];
    const told = [row(4, "FAILED"), row(3, "COMPLETED"), row(5, "FAILED", "other")];
    expect(ids(listed(pages, told, { status: "FAILED", model: "m" }))).toEqual([4, 2, 1]);
  });
});

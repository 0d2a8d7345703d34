import { expect, it } from "vitest";
import type { LogLine } from "../queries.ts";
import { pricesSet, since } from "./history.ts";

const line = (seq: number, action: string, target: string, detail: Record<string, unknown>): LogLine => ({
  seq,
  at: `2026-11-26T10:00:${String(seq).padStart(2, "0")}+00:00`,
  actor: "user_1",
  action,
  target,
  address: null,
  request_id: null,
  detail,
});
const LINES = [
  line(9, "price.set", "qwen3:8b", { job: 2_500_000 }),
  line(8, "session.opened", "user_1", {}),
  line(7, "price.set", "default", { job: 1 }),
  line(6, "price.set", "qwen3:8b", {}),
];

it("reads prices out of the audit log, in credits", () => {
  expect(pricesSet(LINES).map(({ seq, model, job }) => [seq, model, job])).toEqual([
    [9, "qwen3:8b", "2.50"],
    [7, "default", "0.000001"],
    [6, "qwen3:8b", undefined],
  ]);
});

it("tells since when each model has its price", () => {
  expect([...since(pricesSet(LINES))]).toEqual([
    ["qwen3:8b", "2026-11-26T10:00:09+00:00"],
    ["default", "2026-11-26T10:00:07+00:00"],
  ]);
});

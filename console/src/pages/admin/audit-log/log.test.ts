import { expect, it } from "vitest";
import type { LogLine } from "../queries.ts";
import { csvOf } from "./csv.ts";
import { everything } from "./everything.ts";
import { filtered } from "./filter.ts";

const line = (seq: number, more: Partial<LogLine> = {}): LogLine => ({
  seq,
  at: "2026-11-26T10:00:00+00:00",
  actor: "user_1",
  action: "price.set",
  target: "qwen3:8b",
  address: "127.0.0.1",
  request_id: "r1",
  detail: {},
  ...more,
});

it("writes CSV that reads back, and that no spreadsheet takes for a formula", () => {
  const text = csvOf([line(2, { target: "=1+1", detail: { reason: 'a "b", c' } }), line(1, { address: null, request_id: null })]);
  expect(text.split("\r\n")).toEqual([
    "seq,at,actor,action,target,address,request_id,detail",
    `2,2026-11-26T10:00:00+00:00,user_1,price.set,'=1+1,127.0.0.1,r1,"{""reason"":""a \\""b\\"", c""}"`,
    "1,2026-11-26T10:00:00+00:00,user_1,price.set,qwen3:8b,,,{}",
    "",
  ]);
});

it.each([
  ["", [3, 2, 1]],
  ["PRICE", [3, 2]],
  ["user_2", [2]],
  ["spam", [1]],
  ["nowhere", []],
])("%o finds %o", (text, found) => {
  const lines = [line(3), line(2, { actor: "user_2" }), line(1, { action: "person.blocked", detail: { reason: "Spam" } })];
  expect(filtered(lines, text).map(({ seq }) => seq)).toEqual(found);
});

it("reads the log to its end, or to its limit, and says which", async () => {
  const pages = new Map([
    ["", { results: [line(4), line(3)], next: "3" }],
    ["3", { results: [line(2), line(1)], next: null }],
  ]);
  const ask = async (before?: string) => pages.get(before ?? "") ?? { results: [], next: null };
  const whole = await everything(ask, 10);
  expect([whole.lines.map(({ seq }) => seq), whole.isWhole]).toEqual([[4, 3, 2, 1], true]);
  const cut = await everything(ask, 2);
  expect([cut.lines.length, cut.isWhole]).toEqual([2, false]);
});

import { expect, it } from "vitest";
import { firstTokenS, spanText, tokensPerS } from "./pace.ts";

const job = {
  usage: { prompt_tokens: 3, completion_tokens: 21 },
  started_at: "2026-01-01T00:00:00+00:00",
  completed_at: "2026-01-01T00:00:03+00:00",
};

it("counts from the first words where somebody saw them, else the whole run", () => {
  expect(tokensPerS(job, { submittedAt: 0, firstAt: 1000, endedAt: 3000, isWhole: true })).toBe(10);
  expect(tokensPerS(job, { submittedAt: 0, firstAt: 1000, endedAt: 3000, isWhole: false })).toBe(7);
  expect(tokensPerS(job)).toBe(7);
  expect(tokensPerS({ ...job, usage: null })).toBeUndefined();
});

it("tells the wait for the first words only to who waited here", () => {
  expect(firstTokenS({ submittedAt: 500, firstAt: 1000, endedAt: undefined, isWhole: true })).toBe(0.5);
  expect(firstTokenS({ submittedAt: undefined, firstAt: 1000, endedAt: undefined, isWhole: true })).toBeUndefined();
});

it.each([
  [0.416, "0.42\u00a0s"],
  [4.04, "4.0\u00a0s"],
  [59.4, "59\u00a0s"],
  [185, "3\u00a0min 5\u00a0s"],
])("writes %d s", (seconds, text) => {
  expect(spanText(seconds)).toBe(text);
});

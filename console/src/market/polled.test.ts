import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Problem } from "../client/problem.ts";
import { Poll } from "./polled.ts";

let asked: number;
let answers: () => string;
const ask = async () => {
  asked += 1;
  return answers();
};
const settle = (ms = 0) => vi.advanceTimersByTimeAsync(ms);

beforeEach(() => {
  vi.useFakeTimers();
  asked = 0;
  answers = () => `answer ${asked}`;
});
afterEach(() => {
  vi.useRealTimers();
});

it("asks once for all who look, again and again, and stops with the last of them", async () => {
  const poll = new Poll(ask, 1000);
  const leave = [poll.subscribe(() => undefined), poll.subscribe(() => undefined)];
  await settle(2500);
  expect([asked, poll.state().data]).toEqual([3, "answer 3"]);
  leave[0]?.();
  await settle(1000);
  leave[1]?.();
  await settle(10_000);
  expect(asked).toBe(4);
});

it("keeps what it knows when an answer fails, and says so", async () => {
  const poll = new Poll(ask, 1000);
  poll.subscribe(() => undefined);
  await settle();
  answers = () => {
    throw new Problem(503, { detail: "silent" }, 5);
  };
  await settle(1000);
  expect(poll.state()).toMatchObject({ data: "answer 1", problem: { status: 503 } });
  await settle(4000);
  expect(asked).toBe(2);
  answers = () => "back";
  await settle(1000);
  expect(poll.state()).toEqual({ data: "back", problem: undefined });
});

it("asks only once for what does not change, unless that failed", async () => {
  answers = () => {
    throw new Problem(0, {});
  };
  const poll = new Poll(ask);
  const leave = poll.subscribe(() => undefined);
  await settle();
  answers = () => "there";
  await poll.again();
  await settle(60_000);
  expect([asked, poll.state().data]).toEqual([2, "there"]);
  leave();
  poll.subscribe(() => undefined);
  await settle(60_000);
  expect(asked).toBe(2);
});

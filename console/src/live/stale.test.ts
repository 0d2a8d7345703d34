import { focusManager, QueryClient } from "@tanstack/react-query";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { stale } from "./stale.ts";

const KEY = ["wallet"] as const;
const asked = vi.fn<() => void>();
let queries: QueryClient;

beforeEach(() => {
  vi.useFakeTimers();
  queries = new QueryClient();
  asked.mockClear();
  queries.invalidateQueries = vi.fn(({ refetchType }) => {
    if (refetchType === "active") asked();
    return Promise.resolve();
  }) as never;
});
afterEach(() => {
  focusManager.setFocused(undefined);
  vi.useRealTimers();
});

test("the first is at once, what comes within a second after it is one more", async () => {
  stale(queries, KEY);
  expect(asked).toHaveBeenCalledTimes(1);
  for (let number = 0; number < 50; number++) stale(queries, KEY);
  expect(asked).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked).toHaveBeenCalledTimes(2);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(asked).toHaveBeenCalledTimes(2);
  stale(queries, KEY);
  expect(asked).toHaveBeenCalledTimes(3);
});

test("while changes go on coming the pauses grow to four seconds, and begin anew after a quiet one", async () => {
  const asks: number[] = [];
  for (let at = 0; at < 20_000; at += 100) {
    if (at < 12_000 || at === 19_000) stale(queries, KEY);
    if (asked.mock.calls.length > asks.length) asks.push(at);
    await vi.advanceTimersByTimeAsync(100);
  }
  expect(asks.map((at) => Math.round(at / 1_000))).toEqual([0, 1, 3, 7, 11, 15, 19]);
});

test.each([
  [50, 1_000],
  [300, 3_300],
  [4_000, 14_000],
  [60_000, 20_000],
])("after an answer that took %i ms the next is asked for after %i ms", async (took, next) => {
  queries.invalidateQueries = vi.fn(({ refetchType }) => {
    if (refetchType === "active") asked();
    return new Promise((answered) => setTimeout(answered, took));
  }) as never;
  stale(queries, KEY);
  await vi.advanceTimersByTimeAsync(10);
  stale(queries, KEY);
  await vi.advanceTimersByTimeAsync(next - 11);
  expect(asked).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(asked).toHaveBeenCalledTimes(2);
});

test("one query does not wait for another", () => {
  stale(queries, KEY);
  stale(queries, ["jobs"], ["jobs", "open"]);
  expect(asked).toHaveBeenCalledTimes(3);
});

test("a tab that nobody sees asks nothing, and knows what is old", () => {
  focusManager.setFocused(false);
  stale(queries, KEY);
  expect(asked).not.toHaveBeenCalled();
  expect(queries.invalidateQueries).toHaveBeenCalledWith({ queryKey: KEY, refetchType: "none" });
});

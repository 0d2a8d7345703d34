import { expect, it } from "vitest";
import { perMinute, type Sample, sampled, shareWithoutAnswer, WINDOW_MS } from "./pace.ts";

const at = (seconds: number, jobs: number): Sample => ({ atMs: seconds * 1000, jobs });
const all = (...samples: Sample[]) => samples.reduce<readonly Sample[]>(sampled, []);

it("tells nothing before it has looked long enough", () => {
  expect([perMinute([]), perMinute(all(at(0, 5))), perMinute(all(at(0, 5), at(8, 9)))]).toEqual([undefined, undefined, undefined]);
});

it("counts jobs per minute between the first sample and the last", () => {
  expect(perMinute(all(at(0, 100), at(10, 104), at(30, 107)))).toBe(14);
  expect(perMinute(all(at(0, 100), at(30, 100)))).toBe(0);
});

it("forgets what is older than its window, and what came too soon after another", () => {
  const samples = all(at(0, 0), at(0.5, 1), at(20, 2), at(WINDOW_MS / 1000 + 10, 30));
  expect(samples).toEqual([at(20, 2), at(WINDOW_MS / 1000 + 10, 30)]);
});

it("begins anew when the count went back", () => {
  expect(all(at(0, 500), at(10, 510), at(20, 3))).toEqual([at(20, 3)]);
});

it("tells which share of ended jobs brought no whole answer", () => {
  expect(shareWithoutAnswer({ jobs: 104, completed: 97, open: 4 })).toBe(0.03);
  expect(shareWithoutAnswer({ jobs: 10, completed: 10, open: 1 })).toBe(0);
  expect(shareWithoutAnswer({ jobs: 2, completed: 0, open: 2 })).toBeUndefined();
});

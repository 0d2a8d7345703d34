import { expect, it } from "vitest";
import { heights, inWords } from "./days.ts";

const days = [
  { date: "2026-11-23", earned: "0.00", jobs: 0 },
  { date: "2026-11-24", earned: "3.000125", jobs: 3 },
  { date: "2026-11-25", earned: "3.000125", jobs: 4 },
  { date: "2026-11-26", earned: "-1.00", jobs: -1 }, // a refund
];

it("draws what the API says, and keeps its words", () => {
  expect(heights(days).map(({ height }) => height)).toEqual([0, 3.000125, 3.000125, -1]);
  expect(heights(days)[1]?.day).toBe(days[1]);
});

it("tells those who do not see it", () => {
  expect(inWords(days)).toMatch(/^2 of 4 days brought something; the best was .*24.* with 3\.000125 credits\.$/);
  expect(inWords(days.slice(0, 1).concat(days.slice(0, 1)))).toBe("None of 2 days brought anything.");
});

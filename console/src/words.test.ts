import { expect, it } from "vitest";
import { counted, listed, percent } from "./words.ts";

it("counts in words", () => {
  expect([0, 1, 2, 1234].map((count) => counted(count, "job"))).toEqual(["0 jobs", "1 job", "2 jobs", "1,234 jobs"]);
});

it("names the first few", () => {
  expect([listed([]), listed(["a"]), listed(["a", "b", "c", "d", "e"]), listed(["a", "b"], 1)]).toEqual([
    "",
    "a",
    "a, b, c and 2 more",
    "a and 1 more",
  ]);
});

it("writes shares, and calls only all of them all", () => {
  expect([null, 0, 0.5, 0.985, 0.9852, 0.9922, 0.99999, 1].map(percent)).toEqual([
    "–",
    "0 %",
    "50 %",
    "98.5 %",
    "98.5 %",
    "99.22 %",
    "99.99 %",
    "100 %",
  ]);
});

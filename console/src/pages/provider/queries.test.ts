import { expect, it, vi } from "vitest";

vi.mock("../../client/api.ts", () => ({ ledger: {}, serve: {} }));
const { rowsOf } = await import("./queries.ts");

const pages: Record<string, { results: number[]; next: string | null }> = {
  "": { results: [1, 2], next: "a" },
  a: { results: [3, 4], next: "b" },
  b: { results: [5], next: null },
};

it("reads every page of a list", async () => {
  expect(await rowsOf(async (cursor = "") => pages[cursor] ?? { results: [], next: null })).toEqual([1, 2, 3, 4, 5]);
});

it("stops where what is looked for was found", async () => {
  const page = vi.fn(async (cursor = "") => pages[cursor] ?? { results: [], next: null });
  expect(await rowsOf(page, (row) => row === 3)).toEqual([1, 2, 3, 4]);
  expect(page).toHaveBeenCalledTimes(2);
});

it("gives up on a list without an end", async () => {
  const page = vi.fn(async () => ({ results: [0], next: "again" }));
  expect(await rowsOf(page)).toHaveLength(20);
});

import { expect, it } from "vitest";
import { Problem, unreachable } from "../../../client/problem.ts";
import { newRequestId } from "./request-id.ts";
import { isEndUnknown } from "./unknown-end.ts";

it("makes an id of its own for each change, short enough for the audit log", () => {
  const ids = new Set(Array.from({ length: 100 }, newRequestId));
  expect(ids.size).toBe(100);
  for (const id of ids) expect(id).toMatch(/^console-[0-9a-f]{24}$/);
});

it.each([
  [unreachable(new TypeError("gone")), true],
  [new Problem(503, {}), true],
  [new Problem(500, {}), true],
  [new Problem(429, {}), false],
  [new Problem(409, {}), false],
  [undefined, false],
])("%o: unknown %o", (problem, isUnknown) => {
  expect(isEndUnknown(problem)).toBe(isUnknown);
});

import { expect, it } from "vitest";
import { readSearch } from "./periods.ts";

it("takes the periods that there are, and leaves the usual out of the address", () => {
  expect(readSearch({ days: "90", view: "table" })).toEqual({ days: 90, view: "table" });
  expect(readSearch({ days: 30 })).toEqual({});
  expect(readSearch({ days: 31, view: "pie" })).toEqual({});
});

import { expect, it } from "vitest";
import type { Problem } from "../../../client/problem.ts";
import { pocketName, signed } from "./pockets.ts";

it("puts the sign of the direction before what was typed", () => {
  expect([signed("25", "give"), signed("1 000,5", "take")]).toEqual(["25.00", "-1000.50"]);
});

it.each(["", "0", "-5", "many", "1.2345678"])("refuses %o at its field", (text) => {
  try {
    signed(text, "give");
    expect.unreachable();
  } catch (thrown) {
    expect((thrown as Problem).field("amount")).toContain("above zero");
  }
});

it("names pockets, and shows what it does not know as it is", () => {
  expect([pocketName("promo"), pocketName("other")]).toEqual(["Gift", "other"]);
});

import { describe, expect, it } from "vitest";
import { boundsOf, wrongWith } from "./amount.ts";

const bounds = { least: "1.00", most: "10000.00" };

describe("an amount to move", () => {
  it.each(["1", "25", "25.5", "25,50", " 10 000 ", "10000.00"])("may be %s", (text) => expect(wrongWith(text, bounds)).toBeUndefined());

  it.each([
    ["", "How much?"],
    ["ten", "Write a number, with at most two decimals."],
    ["-5", "Write a number, with at most two decimals."],
    ["1e3", "Write a number, with at most two decimals."],
    ["1.005", "At most two decimals."],
    ["0.99", "At least 1.00\u00a0credit."],
    ["10000.01", "At most 10\u202f000.00\u00a0credits."],
  ])("%s is answered in words", (text, words) => expect(wrongWith(text, bounds)).toBe(words));

  it("has its bounds told, as far as they are known", () => {
    expect(boundsOf(bounds)).toBe("Between 1.00 and 10\u202f000.00\u00a0credits.");
    expect(boundsOf({ least: "1.00" })).toBe("At least 1.00\u00a0credit.");
    expect(boundsOf({})).toBe("");
  });
});

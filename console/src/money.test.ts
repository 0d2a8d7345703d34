import { describe, expect, it } from "vitest";
import { amountOf, compare, credits, figure, isZero, less, micros, sum, typed } from "./money.ts";

describe("money", () => {
  it("is exact where floats are not", () => {
    expect(sum(["0.10", "0.20"])).toBe("0.30");
    expect(sum(Array.from({ length: 1000 }, () => "0.000001"))).toBe("0.001");
    expect(sum(["9007199254740993.00", "0.000001"])).toBe("9007199254740993.000001");
    expect(less("100.00", "99.999999")).toBe("0.000001");
  });

  it.each([
    ["0", "0.00"],
    ["1.5", "1.50"],
    ["-1.00", "-1.00"],
    ["0.000125", "0.000125"],
    ["12.340000", "12.34"],
    ["-0.10", "-0.10"],
  ])("writes %s as the API does", (amount, written) => {
    expect(amountOf(micros(amount))).toBe(written);
  });

  it.each(["", "1.", ".5", "1e3", "1,00", "NaN", "1.0000001", " 1", "--1", "0x1"])("refuses %j", (text) => {
    expect(() => micros(text)).toThrow(RangeError);
  });

  it("is written for people", () => {
    expect(figure("1234567.50")).toBe("1\u202f234\u202f567.50");
    expect(figure("-1.00")).toBe("\u22121.00");
    expect(figure("3.00", { signed: true })).toBe("+3.00");
    expect(figure("0.00", { signed: true })).toBe("0.00");
    expect(credits("1.00")).toBe("1.00\u00a0credit");
    expect(credits("99.00")).toBe("99.00\u00a0credits");
    expect(credits("0.000125")).toBe("0.000125\u00a0credits");
  });

  it("compares", () => {
    expect([compare("2.00", "10.00"), compare("1.0", "1.00"), compare("0.5", "-3")]).toEqual([-1, 0, 1]);
    expect([isZero("0.00"), isZero("0.000001")]).toEqual([true, false]);
  });

  it.each([
    ["25", "25.00"],
    [" 1 000,5 ", "1000.50"],
    ["0.10", "0.10"],
    ["", undefined],
    ["ten", undefined],
    ["1.2345678", undefined],
    ["1.2.3", undefined],
  ])("reads what is typed: %j", (text, amount) => {
    expect(typed(text)).toBe(amount);
  });
});

import { describe, expect, it } from "vitest";
import { partsOf, readSearch } from "./kinds.ts";

describe("the wallet's address", () => {
  it("tells the kind, and the deposit that somebody comes back from", () => {
    expect(readSearch({ kind: "refund" })).toEqual({ kind: "refund" });
    expect(readSearch({ deposit: "dep_1", outcome: "paid" })).toEqual({ deposit: "dep_1", outcome: "paid" });
    expect(readSearch({ deposit: "dep_1" })).toEqual({ deposit: "dep_1" });
  });

  it("is not believed when it says what there is not", () => {
    expect(readSearch({ kind: "gift", deposit: 7, outcome: "paid" })).toEqual({});
    expect(readSearch({ deposit: "dep_1", outcome: "stolen" })).toEqual({ deposit: "dep_1" });
  });
});

describe("a description", () => {
  it("is cut around its job", () => {
    expect(partsOf({ description: "Payment for job job_1 (m)", job_id: "job_1" })).toEqual(["Payment for job ", "job_1", " (m)"]);
  });

  it("is left whole where it names none", () => {
    expect(partsOf({ description: "Welcome credits", job_id: null })).toEqual(["Welcome credits", "", ""]);
    expect(partsOf({ description: "Refund", job_id: "job_1" })).toEqual(["Refund", "", ""]);
  });
});

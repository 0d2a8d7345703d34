import { describe, expect, it } from "vitest";
import { outcomeOf } from "./outcome.ts";

const job = { status: "FAILED" as const, result: { error: "It broke." }, node: null, attempts: 1, incomplete: false, cost: "0.00" };

describe("what became of a job", () => {
  it("is nothing to speak of when it is open or ended well", () => {
    expect(outcomeOf({ ...job, status: "RUNNING" })).toBeUndefined();
    expect(outcomeOf({ ...job, status: "COMPLETED" })).toBeUndefined();
  });

  it("says what it cost, once that is known", () => {
    expect(outcomeOf(job)?.text).toBe("It broke. It cost nothing.");
    expect(outcomeOf({ ...job, cost: null })?.text).toBe("It broke.");
    expect(outcomeOf({ ...job, status: "CANCELED", result: null })?.text).toBe("Nothing was delivered. It cost nothing.");
    expect(outcomeOf({ ...job, status: "CANCELED", result: { output: "Hel" }, cost: "1.00" })?.text).toContain("are charged");
  });

  it("tells a broken answer from a job that nobody took", () => {
    expect(outcomeOf({ ...job, incomplete: true, result: { output: "Hel", error: "It broke." } })?.title).toBe("The answer broke off");
    expect(outcomeOf({ ...job, result: { error: "No node took the job in time." } })?.title).toBe("No machine took it in time");
  });
});

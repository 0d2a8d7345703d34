import { expect, it } from "vitest";
import type { Appeal, Audits } from "../provider/queries.ts";
import { mayAppeal, offering, stepOf, verdictOf, whyOf } from "./words.ts";

it("says what an audit found", () => {
  expect(verdictOf({ is_flagged: true, rule: "A" })).toMatchObject({ tone: "bad", word: "Flagged" });
  expect(verdictOf({ is_flagged: false, rule: "B" })).toMatchObject({ tone: "ok", word: "As it should be" });
  expect(verdictOf({ is_flagged: false, rule: "none" })).toMatchObject({ tone: "none", word: "Not to be judged" });
});

it("shows a step that it does not know by its own word", () => {
  expect(stepOf("ban")).toEqual(["alert", "Ban"]);
  expect(stepOf("something new")).toEqual(["info", "something new"]);
});

it("offers an appeal where there is something to object to, one at a time", () => {
  const said = (strikes: number, state: Audits["state"], appeal: Appeal["state"] | null = null) =>
    ({ strikes, state, appeal: appeal && { state: appeal } }) as Audits;
  const refused = (again_at: string | null) => ({ state: "refused" as const, again_at });
  expect(mayAppeal(said(0, "active"), [])).toBe(false);
  expect(mayAppeal(said(1, "active"), [])).toBe(true);
  expect(mayAppeal(said(0, "quarantined"), [])).toBe(true);
  expect(mayAppeal(said(3, "banned", "OPEN"), [])).toBe(false);
  expect(mayAppeal(said(3, "banned", "REFUSED"), [])).toBe(true);
  expect(mayAppeal(said(0, "active"), [refused(null)])).toBe(true);
  expect(mayAppeal(said(0, "active"), [refused("2026-11-24T10:00:00+00:00")])).toBe(false); // it is tested again by itself
});

it("tells whether a model is offered, and what its tests came to", () => {
  expect(offering(undefined, undefined).word).toBe("Unknown");
  expect(offering(true, "admitted").word).toBe("Offered");
  expect(offering(false, "testing").word).toBe("Being tested");
  expect(offering(false, "refused").word).toBe("Not admitted");
  expect(offering(false, "admitted").word).toBe("Not offered");
});

it("says nothing about a model twice", () => {
  expect(whyOf("Being tested: 1 of 4 canaries passed.", "being tested: 1 of 4 canaries passed", "")).toBe(
    "Being tested: 1 of 4 canaries passed.",
  );
  expect(whyOf(undefined, undefined, "")).toBe("");
});

import { describe, expect, it } from "vitest";
import type { Key } from "../account/queries.ts";
import { changeOf, type Draft, dayOf, draftOf, EMPTY, limitWords, newKey, standingOf, wrongWith } from "./draft.ts";

const key: Key = {
  id: "Nc66eciD",
  name: "laptop",
  scopes: ["jobs:read"],
  budget_day: "10.00",
  budget_month: null,
  budget_total: "99.50",
  per_minute: 30,
  models: ["smollm2:135m"],
  expires_at: new Date("2027-03-31T23:59:59").toISOString(),
  privacy: "trusted",
  created_at: "2026-11-24T10:00:00+00:00",
  last_used_at: null,
  revoked_at: null,
};

const draft = (changes: Partial<Draft>): Draft => ({ ...EMPTY, name: "laptop", ...changes });

describe("a new key", () => {
  it("has no limit where nothing was typed", () => {
    expect(newKey(draft({}))).toEqual({
      name: "laptop",
      scopes: ["jobs:write", "jobs:read", "wallet:read"],
      budget_day: null,
      budget_month: null,
      budget_total: null,
      per_minute: null,
      models: null,
      expires_at: null,
      privacy: "community",
    });
  });

  it("has its amounts as the API writes them, and works until the end of its last day", () => {
    const made = newKey(draft({ budget_day: "2,5", per_minute: " 7 ", lastDay: "2027-03-31", isTrusted: true, models: ["a"] }));
    expect(made).toMatchObject({ budget_day: "2.50", per_minute: 7, privacy: "trusted", models: ["a"] });
    expect(dayOf(new Date(made.expires_at ?? ""))).toBe("2027-03-31");
    expect(dayOf(new Date(Date.parse(made.expires_at ?? "") + 1000))).toBe("2027-04-01");
  });
});

describe("what is wrong with a key's form", () => {
  it("is nothing, as a rule", () => expect(wrongWith(draft({ budget_day: "0", per_minute: "1" }))).toEqual({}));

  it("stands at its field", () => {
    expect(Object.keys(wrongWith({ ...EMPTY, name: " ", scopes: [], budget_month: "-1", budget_total: "much", per_minute: "0" }))).toEqual([
      "name",
      "scopes",
      "budget_month",
      "budget_total",
      "per_minute",
    ]);
  });
});

describe("a change", () => {
  it("is none when nothing differs", () => expect(changeOf(draftOf(key), key)).toBeUndefined());

  it("names only what differs, and lifts a limit with null", () => {
    expect(changeOf({ ...draftOf(key), name: "desk", budget_day: "", models: [] }, key)).toEqual({
      name: "desk",
      budget_day: null,
      models: null,
    });
  });
});

describe("a key in words", () => {
  it("tells its limits", () => {
    expect(limitWords(key)).toEqual([
      "10.00\u00a0credits a day",
      "99.50\u00a0credits in all",
      "30 jobs a minute",
      "only smollm2:135m",
      "trusted machines only",
    ]);
  });

  it("tells how it stands", () => {
    const at = (now: string) => standingOf(key, Date.parse(now));
    expect([at("2027-01-01"), at("2027-04-02")]).toEqual(["works", "expired"]);
    expect(standingOf({ ...key, revoked_at: "2026-12-01T00:00:00Z" }, 0)).toBe("revoked");
  });
});

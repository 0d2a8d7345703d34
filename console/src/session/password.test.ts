import { describe, expect, it } from "vitest";
import { rulesFor } from "./password.ts";

const kept = (password: string, username = "ada", email = "") => rulesFor(password, username, email).map((rule) => rule.isKept);

describe("what is asked of a password", () => {
  it("is told before anything is typed", () => {
    expect(kept("")).toEqual([false, false, false]);
  });

  it.each([
    ["seven quiet lamps", [true, true, true]],
    ["short", [false, true, true]],
    ["123456789012", [true, false, true]],
    ["٣٤٥٦٧٨٩٠١٢٣٤", [true, false, true]],
    ["éééééééééééé", [true, true, true]],
    ["👍👍👍👍👍👍👍👍👍👍👍", [false, true, true]],
  ])("%s", (password, expected) => {
    expect(kept(password)).toEqual(expected);
  });

  it("is not the username, however it is dressed", () => {
    expect(kept("Margaret-2026!", "margaret")[2]).toBe(false);
    expect(kept("ada rides again and again", "ada")[2]).toBe(true);
    expect(kept("margaret and seven quiet lamps by the river", "margaret")[2]).toBe(true);
    expect(kept("margaret.hamilton", "mh", "margaret.hamilton@example.org")[2]).toBe(false);
  });
});

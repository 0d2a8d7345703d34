import { describe, expect, it } from "vitest";
import type { LiveNode, OwnNode } from "./queries.ts";
import { actionsOf, sentence, standing } from "./standing.ts";

const node = (state: OwnNode["state"], state_reason: string | null = null) => ({ state, state_reason });
const MODEL = { name: "m:1b" } as LiveNode["models"][number];
const live = (changes: Partial<LiveNode> = {}) =>
  ({ online: true, healthy: true, draining: false, reason: "", running: 0, slots: 2, models: [MODEL], ...changes }) as LiveNode;

describe("standing", () => {
  it("tells what the ledger decided before what the machine does", () => {
    expect(standing(node("quarantined", "two strikes"), live())).toMatchObject({
      tone: "bad",
      word: "In quarantine",
      more: "Two strikes. No jobs and no pay-outs until an operator has looked. You may object.",
    });
    expect(standing(node("revoked"), live()).word).toBe("Cut off");
    expect(standing(node("paused"), live({ running: 1 })).word).toBe("Paused");
  });

  it("tells what keeps an active machine from work, in the machine's own words", () => {
    expect(standing(node("active"), undefined).word).toBe("Unknown");
    expect(standing(node("active"), live({ online: false, healthy: false })).word).toBe("Offline");
    expect(standing(node("active"), live({ draining: true, reason: "paused by its owner" }))).toEqual({
      tone: "warn",
      word: "Takes no jobs",
      more: "Paused by its owner.",
    });
    expect(standing(node("active"), live({ healthy: false })).more).toBeUndefined();
    expect(standing(node("active"), live({ models: [] })).word).toBe("No model");
  });

  it("says nothing more where all is well", () => {
    expect(standing(node("active"), live())).toEqual({ tone: "ok", word: "Online" });
    expect(standing(node("active"), live({ running: 1 }))).toEqual({ tone: "ok", word: "At work" });
  });
});

describe("actions", () => {
  const of = (state: OwnNode["state"], kind = "edge") =>
    Object.entries(actionsOf({ state, kind }))
      .filter(([, can]) => can)
      .map(([name]) => name);

  it("follow the state, as the ledger would decide", () => {
    expect(of("active")).toEqual(["pause", "revoke", "deregister"]);
    expect(of("paused")).toEqual(["resume", "revoke", "deregister"]);
    expect(of("revoked")).toEqual(["deregister", "recode"]);
    expect(of("quarantined")).toEqual(["revoke"]);
    expect(of("banned")).toEqual([]);
  });

  it("of the operator's own machines need no agent", () => {
    expect(of("active", "trusted")).toEqual(["pause"]);
    expect(of("paused", "trusted")).toEqual(["resume"]);
  });
});

it("makes a sentence of words", () => {
  expect(sentence("it needs 3 GiB more")).toBe("It needs 3 GiB more.");
  expect(sentence("Pull it again!")).toBe("Pull it again!");
});

import { describe, expect, it } from "vitest";
import type { AgentToken, LiveNode } from "../provider/queries.ts";
import { clock, lifetimeMs, stageOf } from "./stage.ts";

const token = (changes: Partial<AgentToken> = {}) => ({ last_used: null, node_id: null, revoked_at: null, ...changes }) as AgentToken;
const used = token({ last_used: "2026-11-24T10:00:00+00:00", node_id: "node_1" });
const nodes = (online: boolean) => new Map([["node_1", { id: "node_1", online } as LiveNode]]);

describe("a new machine", () => {
  it("is waited for until the code's time is over", () => {
    expect(stageOf(undefined, undefined, false)).toEqual({ is: "waiting" });
    expect(stageOf(token(), undefined, false)).toEqual({ is: "waiting" });
    expect(stageOf(token(), undefined, true)).toEqual({ is: "expired" });
    expect(stageOf(token({ revoked_at: "2026-11-24T10:00:00+00:00" }), undefined, false)).toEqual({ is: "revoked" });
  });

  it("is enrolled, then connected, whatever the time", () => {
    expect(stageOf(used, undefined, true)).toEqual({ is: "enrolled", node: "node_1" });
    expect(stageOf(used, nodes(false), false)).toEqual({ is: "enrolled", node: "node_1" });
    expect(stageOf(used, nodes(true), true)).toMatchObject({ is: "connected", node: "node_1" });
  });

  it("that comes back is not taken for one that came", () => {
    expect(stageOf(token({ node_id: "node_1" }), nodes(true), false)).toEqual({ is: "waiting" }); // the code names it before it is used
  });
});

it("shows seconds as a clock", () => {
  expect([600, 599.2, 61, 0.4, 0, -3].map(clock)).toEqual(["10:00", "10:00", "1:01", "0:01", "0:00", "0:00"]);
});

it("counts a code's life by the platform's clock", () => {
  expect(lifetimeMs({ created_at: "2026-11-24T10:00:00+00:00", expires_at: "2026-11-24T10:10:00+00:00" })).toBe(600_000);
});

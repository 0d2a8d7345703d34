import { expect, it } from "vitest";
import type { AgentToken } from "./queries.ts";
import { tokenState } from "./tokens.ts";

const AT = "2026-11-24T10:00:00+00:00";
const END = "2026-11-24T10:10:00+00:00";
const token = (changes: Partial<AgentToken>) =>
  ({ created_at: AT, expires_at: END, last_used: null, node_id: null, revoked_at: null, ...changes }) as AgentToken;
const before = Date.parse(END) - 1;

it("tells what became of a code", () => {
  expect(tokenState(token({}), before)).toMatchObject({ word: "Waits for its machine", isLive: true });
  expect(tokenState(token({}), before + 1)).toMatchObject({ word: "Expired unused", isLive: false });
  expect(tokenState(token({ last_used: AT }), before + 1)).toMatchObject({ word: "In use", isLive: true });
  expect(tokenState(token({ last_used: AT, revoked_at: END }), before)).toMatchObject({ word: "Revoked", isLive: false });
});

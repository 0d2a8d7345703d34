import type { Tone } from "../../components/Status.tsx";
import type { AgentToken } from "./queries.ts";

/** What became of a code. Pure. */
export interface TokenState {
  tone: Tone;
  word: string;
  /** It still opens something. */
  isLive: boolean;
}

export function tokenState(token: AgentToken, nowMs: number): TokenState {
  if (token.revoked_at) return { tone: "none", word: "Revoked", isLive: false };
  if (token.last_used) return { tone: "ok", word: "In use", isLive: true };
  if (Date.parse(token.expires_at) <= nowMs) return { tone: "none", word: "Expired unused", isLive: false };
  return { tone: "busy", word: "Waits for its machine", isLive: true };
}

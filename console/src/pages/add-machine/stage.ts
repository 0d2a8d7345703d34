import type { AgentToken, LiveNode } from "../provider/queries.ts";

/** How far a new machine is. Pure. */
export type Stage =
  | { is: "waiting" }
  /** Nobody used the code in time. */
  | { is: "expired" }
  /** Somebody revoked it meanwhile. */
  | { is: "revoked" }
  /** The code was used; the agent is on its way. */
  | { is: "enrolled"; node: string }
  | { is: "connected"; node: string; live: LiveNode };

/** `token`: the code as the list shows it now; undefined: it is not listed yet. `isOver`: its time is. */
export function stageOf(token: AgentToken | undefined, live: ReadonlyMap<string, LiveNode> | undefined, isOver: boolean): Stage {
  if (token?.revoked_at) return { is: "revoked" };
  if (!token?.last_used || !token.node_id) return { is: isOver ? "expired" : "waiting" };
  const node = live?.get(token.node_id);
  return node?.online ? { is: "connected", node: token.node_id, live: node } : { is: "enrolled", node: token.node_id };
}

/** Seconds as a clock: `9:41`. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** How long a code lives, in milliseconds, by the platform's clock alone: the reader's may be wrong. */
export function lifetimeMs(made: { created_at: string; expires_at: string }): number {
  return Date.parse(made.expires_at) - Date.parse(made.created_at);
}

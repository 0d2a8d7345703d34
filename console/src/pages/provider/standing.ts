import type { Tone } from "../../components/Status.tsx";
import type { LiveNode, OwnNode } from "./queries.ts";

/** How a machine stands, in a word, and what its owner should know or do about it. Pure. */
export interface Standing {
  tone: Tone;
  word: string;
  /** Why, and what to do; undefined: nothing is out of the ordinary. */
  more?: string;
}

type State = OwnNode["state"];

const STOPPED: Partial<Record<State, Standing>> = {
  banned: { tone: "bad", word: "Banned", more: "It gets no jobs, and what was not paid out is forfeited. You may object." },
  quarantined: { tone: "bad", word: "In quarantine", more: "No jobs and no pay-outs until an operator has looked. You may object." },
  revoked: { tone: "bad", word: "Cut off", more: "Its agent token was revoked. With a new code it comes back with its history." },
  deregistered: { tone: "none", word: "Deregistered", more: "It is gone for good. What it earned stays yours." },
};

/** `live` undefined: it is not known yet how the machine is now. */
export function standing(node: Pick<OwnNode, "state" | "state_reason">, live: LiveNode | undefined): Standing {
  const stopped = STOPPED[node.state];
  if (stopped) return node.state_reason ? { ...stopped, more: `${sentence(node.state_reason)} ${stopped.more}` } : stopped;
  if (node.state === "paused") return { tone: "warn", word: "Paused", more: "It takes no new jobs. Resume it when it may work again." };
  if (live === undefined) return { tone: "none", word: "Unknown" };
  if (!live.online) return { tone: "none", word: "Offline", more: "Its agent is not connected. See on the machine: `gfe agent status`." };
  if (live.draining) return { tone: "warn", word: "Takes no jobs", ...why(live) };
  if (!live.healthy) return { tone: "warn", word: "Not ready", ...why(live) };
  if (live.models.length === 0)
    return { tone: "warn", word: "No model", more: "It is connected and offers no model yet. Pull one on the machine." };
  return live.running > 0 ? { tone: "ok", word: "At work" } : { tone: "ok", word: "Online" };
}

const why = (live: LiveNode) => (live.reason ? { more: sentence(live.reason) } : {});

/** With a capital and a full stop. */
export function sentence(text: string): string {
  const trimmed = text.trim();
  return `${trimmed.charAt(0).toUpperCase()}${trimmed.slice(1)}${/[.!?…]$/.test(trimmed) ? "" : "."}`;
}

/** What can be done with a machine as it stands. */
export interface Actions {
  pause: boolean;
  resume: boolean;
  revoke: boolean;
  deregister: boolean;
  /** A new code gives it a new key, and it keeps its history. */
  recode: boolean;
}

export function actionsOf(node: Pick<OwnNode, "state" | "kind">): Actions {
  const isEdge = node.kind === "edge"; // the operator's own have no agent: they leave by `gfe leave`
  const isGoing = node.state === "active" || node.state === "paused";
  return {
    pause: node.state === "active",
    resume: node.state === "paused",
    revoke: isEdge && (isGoing || node.state === "quarantined"),
    deregister: isEdge && (isGoing || node.state === "revoked"),
    recode: isEdge && node.state === "revoked",
  };
}

const TIERS: Record<string, string> = { probation: "Probation", verified: "Verified", established: "Established" };

export function tierName(tier: string): string {
  return TIERS[tier] ?? tier;
}

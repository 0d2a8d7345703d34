import type { Tone } from "../../../components/Status.tsx";
import type { AdminNode } from "./api.ts";

/** What a node is doing, in one word: the first thing that keeps it from taking jobs, if anything does. */
export type Standing = "takes jobs" | "draining" | "unwell" | "away" | "paused" | "quarantined" | "banned" | "gone";

export const STANDINGS: readonly Standing[] = ["takes jobs", "draining", "unwell", "away", "paused", "quarantined", "banned", "gone"];

const OF_STATE: Record<string, Standing> = {
  paused: "paused",
  quarantined: "quarantined",
  banned: "banned",
  revoked: "gone",
  deregistered: "gone",
};

const SHOWN: Record<Standing, readonly [Tone, string]> = {
  "takes jobs": ["ok", "Takes jobs"],
  draining: ["busy", "Draining"],
  unwell: ["warn", "Not well"],
  away: ["none", "Away"],
  paused: ["none", "Paused"],
  quarantined: ["warn", "Quarantined"],
  banned: ["bad", "Banned"],
  gone: ["none", "Deregistered"],
};

export function standingOf(node: Pick<AdminNode, "state" | "online" | "healthy" | "draining">): Standing {
  const decided = node.state === null ? undefined : OF_STATE[node.state];
  if (decided) return decided;
  if (!node.online) return "away";
  if (!node.healthy) return "unwell";
  return node.draining ? "draining" : "takes jobs";
}

export const shownAs = (standing: Standing): readonly [Tone, string] => SHOWN[standing];

/** How a state of the ledger's is shown; of a node that is not here only this is known. */
export function stateShownAs(state: string): readonly [Tone, string] {
  return state === "active" ? ["ok", "Active"] : SHOWN[OF_STATE[state] ?? "gone"];
}

/** How many nodes of each kind stand how, for those standings that there are. */
export function countByStanding(nodes: readonly AdminNode[]): { standing: Standing; trusted: number; edge: number }[] {
  return STANDINGS.map((standing) => {
    const here = nodes.filter((node) => standingOf(node) === standing);
    const trusted = here.filter((node) => node.kind === "trusted").length;
    return { standing, trusted, edge: here.length - trusted };
  }).filter((row) => row.trusted + row.edge > 0);
}

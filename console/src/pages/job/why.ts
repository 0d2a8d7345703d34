import { spanText } from "../../jobs/pace.ts";
import type { JobWhy } from "../../queries.ts";

/** Placement in sentences. Pure. */

type Decision = JobWhy["decisions"][number];

/** Where an attempt went. */
export function chosenText({ attempt, node, name, others }: Decision): string {
  const more = others > 0 ? ` ${others} more ${others === 1 ? "node was" : "nodes were"} not needed.` : "";
  if (node === null) return `Attempt ${attempt}: no node could take it then.${more}`;
  return `Attempt ${attempt} went to ${name ?? node}.${more}`;
}

/** What stands before a job that waits; undefined: it does not wait. */
export function waitingText({ status, waiting, wait }: JobWhy): string | undefined {
  if (status !== "PENDING") return undefined;
  if (wait) {
    const ahead = wait.ahead === 0 ? "It is next" : wait.ahead === 1 ? "1 job goes before it" : `${wait.ahead} jobs go before it`;
    return `${ahead}; about ${spanText(wait.estimated_s)} to go.`;
  }
  return waiting
    ? `${waiting} ${waiting === 1 ? "job waits" : "jobs wait"} for its model.`
    : "It waits for a machine with its model and room for it.";
}

/** How a queue is shown. */
export interface Standing {
  ahead: string;
  wait: string;
}

/** Say what a quote tells of the queue of its model: null when no node takes such jobs, undefined when it is not known yet. */
export function standingOfQuote(wait: { ahead: number; estimated_s: number } | null | undefined): Standing {
  if (wait === undefined) return { ahead: "…", wait: "…" };
  if (wait === null) return { ahead: "–", wait: "no node takes it" };
  return { ahead: String(wait.ahead), wait: wait.estimated_s < 1 ? "none" : `about ${Math.round(wait.estimated_s)} s` };
}

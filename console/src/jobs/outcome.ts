import { isZero } from "../money.ts";
import type { Job } from "../queries.ts";

/** What became of a job that did not end well, and what one can do about it. Pure. */
export interface Outcome {
  title: string;
  /** What happened, and what it means for the bill. */
  text: string;
  advice: string;
}

type Ended = Pick<Job, "status" | "result" | "node" | "attempts" | "incomplete" | "cost">;

const NOT_TAKEN = "No node took the job in time.";

/** Undefined: it is open, or it ended well. */
export function outcomeOf(job: Ended): Outcome | undefined {
  if (job.status === "CANCELED") return canceled(job);
  if (job.status !== "FAILED") return undefined;
  const text = job.result?.error ?? "The job failed.";
  if (job.incomplete) {
    return {
      title: "The answer broke off",
      text: `${text} Only the tokens that were delivered are charged.`,
      advice: "What was delivered stands below. Run it again for a whole answer; another machine may take it.",
    };
  }
  if (text === NOT_TAKEN) {
    return {
      title: "No machine took it in time",
      text: text + bill(job),
      advice: "Choose a model that has a node now, or any provider, and run it again.",
    };
  }
  return {
    title: "The job failed",
    text: text + bill(job),
    advice: "Run it again. If it fails again, try a shorter prompt or another model.",
  };
}

/** Said only once it is settled. */
function bill({ cost }: Ended): string {
  return cost !== null && isZero(cost) ? " It cost nothing." : "";
}

function canceled(job: Ended): Outcome {
  const wasBegun = Boolean(job.result?.output);
  return {
    title: "You stopped it",
    text: wasBegun ? "The price of a job and the tokens that were delivered are charged." : `Nothing was delivered.${bill(job)}`,
    advice: "Run it again when you need the answer.",
  };
}

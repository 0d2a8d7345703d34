import { Notice } from "../components/Notice.tsx";
import type { Job } from "../queries.ts";
import { outcomeOf } from "./outcome.ts";

/** Why a job did not end well, and what to do; nothing for one that did. */
export function OutcomeNotice({ job }: { job: Job }) {
  const outcome = outcomeOf(job);
  if (outcome === undefined) return null;
  return (
    <Notice kind={job.status === "CANCELED" ? "info" : "bad"} title={outcome.title}>
      {outcome.text} {outcome.advice}
    </Notice>
  );
}

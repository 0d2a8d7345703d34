import type { components } from "../client/serve.d.ts";

export type JobStatus = components["schemas"]["Job"]["status"];

/** The states of a job, in their order. */
export const JOB_STATES: readonly JobStatus[] = ["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELED"];

/** A word of people's for each. */
export const STATE_WORDS: Record<JobStatus, string> = {
  PENDING: "Waiting",
  RUNNING: "Running",
  COMPLETED: "Done",
  FAILED: "Failed",
  CANCELED: "Canceled",
};

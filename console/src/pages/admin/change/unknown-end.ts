import type { Problem } from "../../../client/problem.ts";

/** Whether a change may have been made although it failed: no answer came, or the service broke; not where it refused. */
export function isEndUnknown(problem: Problem | undefined): boolean {
  return problem !== undefined && (problem.status === 0 || problem.status >= 500);
}

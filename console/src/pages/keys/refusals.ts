import type { Problem } from "../../client/problem.ts";
import type { Wrong } from "./draft.ts";

/** The API's fields and those of the form. */
const FIELDS: Record<string, keyof Wrong> = {
  name: "name",
  scopes: "scopes",
  budget_day: "budget_day",
  budget_month: "budget_month",
  budget_total: "budget_total",
  per_minute: "per_minute",
  models: "models",
  expires_at: "lastDay",
};

/** What the API refused, at the form's fields; `rest`: what belongs to none of them. */
export function refusalsOf(problem: Problem | undefined): { wrong: Wrong; rest: Problem | undefined } {
  const wrong: Wrong = {};
  for (const [name, field] of Object.entries(FIELDS)) {
    const text = problem?.field(name);
    if (text !== undefined) wrong[field] = text;
  }
  return { wrong, rest: Object.keys(wrong).length > 0 ? undefined : problem };
}

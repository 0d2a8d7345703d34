import { Problem } from "../../../client/problem.ts";
import { typed } from "../../../money.ts";

/** What stands in the fields of a price. */
export interface Typed {
  job: string;
  prompt_per_million: string;
  completion_per_million: string;
}

const FIELDS = ["job", "prompt_per_million", "completion_per_million"] as const;

/** Make of what was typed what the API wants. Throws a Problem that names every wrong field. `model` null: the default price. */
export function priceAsked(model: string | null, text: Typed): Typed & { model?: string } {
  const errors: Record<string, string[]> = {};
  const amounts = { job: "", prompt_per_million: "", completion_per_million: "" };
  for (const field of FIELDS) {
    const amount = typed(text[field]);
    if (amount === undefined || amount.startsWith("-")) errors[field] = ["Write an amount, e.g. 1.00; zero is one too."];
    else amounts[field] = amount;
  }
  const name = model?.trim();
  if (name === "") errors.model = ["Which model?"];
  if (Object.keys(errors).length > 0) throw new Problem(400, { detail: "A field is wrong.", errors });
  return { ...(name ? { model: name } : {}), ...amounts };
}

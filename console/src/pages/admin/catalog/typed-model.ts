import { Problem } from "../../../client/problem.ts";

/** What stands in the fields of a model. */
export interface TypedModel {
  name: string;
  digest: string;
  source: string;
  license: string;
  size_bytes: string;
  context_tokens: string;
}

const NUMBERS = ["size_bytes", "context_tokens"] as const;

/** Make of what was typed what the API wants; it judges the rest itself. Throws a Problem that names fields which are no whole number. */
export function modelAsked(text: TypedModel) {
  const errors: Record<string, string[]> = {};
  for (const field of NUMBERS) if (!/^\d{1,15}$/.test(text[field].trim())) errors[field] = ["Write a whole number."];
  if (Object.keys(errors).length > 0) throw new Problem(400, { detail: "A field is wrong.", errors });
  return {
    name: text.name.trim(),
    digest: text.digest.trim().toLowerCase(),
    source: text.source.trim(),
    license: text.license.trim(),
    size_bytes: Number(text.size_bytes),
    context_tokens: Number(text.context_tokens),
  };
}

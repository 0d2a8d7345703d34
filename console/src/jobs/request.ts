import type { components } from "../client/serve.d.ts";
import type { Draft } from "./desk.ts";

/** From what was typed to what is asked. Pure. The platform checks as well; this says it sooner and at the right field. */

export type JobAsked = components["schemas"]["JobAsked"];
export type DraftErrors = Partial<Record<keyof Draft, string>>;

export interface Checked {
  readonly asked: JobAsked;
  readonly errors: DraftErrors;
}

export const MAX_PROMPT_BYTES = 1_048_576;
const MAX_TOKENS = 1_000_000;
const MAX_SEED = 2 ** 31 - 1;
const MAX_STOPS = 16;

export function checked(draft: Draft): Checked {
  const errors: DraftErrors = {};
  const number = (field: "temperature" | "topP", most: number) => {
    const typed = draft[field].trim().replace(",", ".");
    if (typed === "") return undefined;
    const value = Number(typed);
    if (/^\d*\.?\d+$/.test(typed) && value <= most) return value;
    errors[field] = `A number from 0 to ${most}.`;
    return undefined;
  };
  const whole = (field: "maxTokens" | "seed", least: number, most: number) => {
    const typed = draft[field].trim();
    if (typed === "") return undefined;
    const value = Number(typed);
    if (/^-?\d+$/.test(typed) && value >= least && value <= most) return value;
    errors[field] = `A whole number from ${least} to ${most}.`;
    return undefined;
  };
  const stop = draft.stop.split("\n").filter((line) => line !== "");
  if (stop.length > MAX_STOPS) errors.stop = `At most ${MAX_STOPS} lines.`;
  for (const field of ["prompt", "system"] as const) if (isTooLong(draft[field])) errors[field] = "At most 1 MiB of text.";
  if (draft.prompt.trim() === "") errors.prompt = "Write a prompt first.";
  const maxTokens = whole("maxTokens", 1, MAX_TOKENS);
  const options = {
    temperature: number("temperature", 2),
    top_p: number("topP", 1),
    seed: whole("seed", -MAX_SEED, MAX_SEED),
    stop: stop.length > 0 ? stop : undefined,
  };
  const said = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  return {
    errors,
    asked: {
      prompt: draft.prompt,
      ...(draft.system.trim() === "" ? {} : { system: draft.system }),
      ...(draft.model === "" ? {} : { model: draft.model }),
      ...(draft.provider.trim() === "" ? {} : { provider: draft.provider.trim() }),
      ...(maxTokens === undefined ? {} : { max_tokens: maxTokens }),
      ...(Object.keys(said).length === 0 ? {} : { options: said }),
    },
  };
}

/** The size of a text in bytes of UTF-8, which is what the limit is about. */
function isTooLong(text: string): boolean {
  return text.length * 3 > MAX_PROMPT_BYTES && new TextEncoder().encode(text).length > MAX_PROMPT_BYTES;
}

/** The fields of the API and where they are typed. */
export const FIELDS: Record<string, keyof Draft> = {
  prompt: "prompt",
  system: "system",
  model: "model",
  provider: "provider",
  max_tokens: "maxTokens",
  "options.temperature": "temperature",
  "options.top_p": "topP",
  "options.seed": "seed",
  "options.stop": "stop",
};

/** What the platform said about fields, at the fields. */
export function errorsOf(fields: Record<string, string[]>): DraftErrors {
  const known = Object.entries(fields).flatMap(([name, texts]) => (FIELDS[name] && texts[0] ? [[FIELDS[name], texts[0]]] : []));
  return Object.fromEntries(known) as DraftErrors;
}

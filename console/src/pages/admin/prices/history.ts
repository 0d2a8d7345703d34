import { amountOf } from "../../../money.ts";
import type { LogLine } from "../queries.ts";

/** What the audit log calls a new price, and its word for the price of every other model. */
const ACTION = "price.set";
export const DEFAULT = "default";

/** A price that was set: when, by whom, for which model, and what of it the log keeps. */
export interface PriceSet {
  seq: number;
  at: string;
  by: string;
  model: string;
  /** Credits per job, as the API writes amounts; undefined: the line does not tell. */
  job: string | undefined;
}

/** The prices that were set, of lines of the audit log, newest first as they are. */
export function pricesSet(lines: readonly LogLine[]): PriceSet[] {
  return lines
    .filter((line) => line.action === ACTION)
    .map((line) => ({ seq: line.seq, at: line.at, by: line.actor, model: line.target, job: amountIn(line.detail.job) }));
}

/** The log keeps amounts as whole micro-credits. */
function amountIn(value: unknown): string | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) ? amountOf(BigInt(value)) : undefined;
}

/** When the newest price of each model was set, as far as these tell. */
export function since(set: readonly PriceSet[]): Map<string, string> {
  const newest = new Map<string, string>();
  for (const one of set) if (!newest.has(one.model)) newest.set(one.model, one.at);
  return newest;
}

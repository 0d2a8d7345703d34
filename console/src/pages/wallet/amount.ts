import { compare, credits, figure, typed } from "../../money.ts";

const CENTS = /[.,]\d{3,}\s*$/;

export interface Bounds {
  least?: string | undefined;
  most?: string | undefined;
}

/** What is wrong with an amount that somebody typed to move money; undefined: nothing that this page can tell. */
export function wrongWith(text: string, { least, most }: Bounds): string | undefined {
  const amount = typed(text);
  if (text.trim() === "") return "How much?";
  if (amount === undefined || amount.startsWith("-")) return "Write a number, with at most two decimals.";
  if (CENTS.test(text)) return "At most two decimals.";
  if (least !== undefined && compare(amount, least) < 0) return `At least ${credits(least)}.`;
  if (most !== undefined && compare(amount, most) > 0) return `At most ${credits(most)}.`;
  return undefined;
}

/** The bounds in words, for a hint. */
export function boundsOf({ least, most }: Bounds): string {
  if (least === undefined) return "";
  return most === undefined ? `At least ${credits(least)}.` : `Between ${figure(least)} and ${credits(most)}.`;
}

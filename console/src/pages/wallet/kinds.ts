import type { components } from "../../client/ledger.d.ts";

export type Entry = components["schemas"]["WalletAnswer"]["logs"][number];
export type Kind = Entry["kind"];

/** The kinds of entries in a word of people's, in the order of the filter. */
export const KIND_WORDS: Record<Kind, string> = {
  welcome: "Welcome credits",
  deposit: "Deposits",
  job_charge: "Jobs paid",
  job_earning: "Jobs earned",
  fee: "Fees",
  withdrawal: "Withdrawals",
  withdrawal_returned: "Withdrawals returned",
  refund: "Refunds",
  adjustment: "Corrections",
};

export const KINDS = Object.keys(KIND_WORDS) as Kind[];

export function isKind(word: unknown): word is Kind {
  return KINDS.includes(word as Kind);
}

/** How somebody left the page of a payment service. */
export type Ending = "paid" | "failed" | "canceled";
const ENDINGS: readonly Ending[] = ["paid", "failed", "canceled"];

export interface WalletSearch {
  kind?: Kind;
  /** A deposit that somebody comes back from paying. */
  deposit?: string;
  outcome?: Ending;
}

/** What an address asks for. */
export function readSearch(search: Record<string, unknown>): WalletSearch {
  const outcome = ENDINGS.find((ending) => ending === search.outcome);
  return {
    ...(isKind(search.kind) ? { kind: search.kind } : {}),
    ...(typeof search.deposit === "string" && search.deposit !== "" ? { deposit: search.deposit, ...(outcome ? { outcome } : {}) } : {}),
  };
}

/** A description in three parts: before the job's id, the id, after it. Without a job all of it is before. */
export function partsOf(entry: Pick<Entry, "description" | "job_id">): readonly [before: string, job: string, after: string] {
  const [before = "", ...rest] = entry.job_id ? entry.description.split(entry.job_id) : [entry.description];
  return entry.job_id && rest.length > 0 ? [before, entry.job_id, rest.join(entry.job_id)] : [entry.description, "", ""];
}

import type { components } from "../../client/ledger.d.ts";
import { credits, typed } from "../../money.ts";
import type { Key } from "../account/queries.ts";
import { USUAL } from "./scopes.ts";

type NewKey = components["schemas"]["NewKey"];
type KeyChange = components["schemas"]["KeyChange"];

export const BUDGETS = ["budget_day", "budget_month", "budget_total"] as const;
export type Budget = (typeof BUDGETS)[number];

/** A key as its form holds it: what was typed; empty: no limit. */
export interface Draft extends Record<Budget, string> {
  name: string;
  scopes: readonly string[];
  per_minute: string;
  models: readonly string[];
  /** The last day on which it works, `2027-01-31`, in the reader's own time. */
  lastDay: string;
  isTrusted: boolean;
}

export const EMPTY: Draft = {
  name: "",
  scopes: USUAL,
  budget_day: "",
  budget_month: "",
  budget_total: "",
  per_minute: "",
  models: [],
  lastDay: "",
  isTrusted: false,
};

/** The form of a key that there is. */
export function draftOf(key: Key): Draft {
  return {
    name: key.name,
    scopes: key.scopes,
    budget_day: key.budget_day ?? "",
    budget_month: key.budget_month ?? "",
    budget_total: key.budget_total ?? "",
    per_minute: key.per_minute?.toString() ?? "",
    models: key.models ?? [],
    lastDay: key.expires_at ? dayOf(new Date(key.expires_at)) : "",
    isTrusted: key.privacy === "trusted",
  };
}

export type Wrong = Partial<Record<keyof Draft, string>>;

/** What is wrong with a draft, by field; empty: nothing that this page can tell. */
export function wrongWith(draft: Draft): Wrong {
  const wrong: Wrong = {};
  if (draft.name.trim() === "") wrong.name = "Give it a name that tells where it is used.";
  if (draft.scopes.length === 0) wrong.scopes = "Allow it at least one thing.";
  for (const budget of BUDGETS) {
    const amount = typed(draft[budget]);
    if (draft[budget].trim() !== "" && (amount === undefined || amount.startsWith("-"))) wrong[budget] = "Write an amount, or nothing.";
  }
  if (draft.per_minute.trim() !== "" && !/^[1-9]\d{0,6}$/.test(draft.per_minute.trim()))
    wrong.per_minute = "Write a whole number, or nothing.";
  return wrong;
}

/** What the API is sent for a new key. */
export function newKey(draft: Draft): NewKey {
  return { name: draft.name.trim(), scopes: [...draft.scopes], ...limitsOf(draft) };
}

/** What the API is sent for a key that there is: what differs. Undefined: nothing does. */
export function changeOf(draft: Draft, key: Key): KeyChange | undefined {
  const [before, after] = [limitsOf(draftOf(key)), limitsOf(draft)];
  const limits = Object.fromEntries(
    Object.entries(after).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name as keyof typeof before])),
  );
  const change = { ...(draft.name.trim() === key.name ? {} : { name: draft.name.trim() }), ...limits };
  return Object.keys(change).length > 0 ? (change as KeyChange) : undefined;
}

function limitsOf(draft: Draft) {
  return {
    budget_day: typed(draft.budget_day) ?? null,
    budget_month: typed(draft.budget_month) ?? null,
    budget_total: typed(draft.budget_total) ?? null,
    per_minute: draft.per_minute.trim() === "" ? null : Number(draft.per_minute),
    models: draft.models.length > 0 ? [...draft.models] : null,
    expires_at: draft.lastDay === "" ? null : endOf(draft.lastDay),
    privacy: draft.isTrusted ? ("trusted" as const) : ("community" as const),
  };
}

/** The last moment of a day. */
function endOf(day: string): string {
  return new Date(`${day}T23:59:59`).toISOString();
}

/** A moment's day, as a field for dates has it. */
export function dayOf(moment: Date): string {
  const part = (value: number) => value.toString().padStart(2, "0");
  return `${moment.getFullYear().toString().padStart(4, "0")}-${part(moment.getMonth() + 1)}-${part(moment.getDate())}`;
}

const PERIODS: Record<Budget, string> = { budget_day: "a day", budget_month: "a month", budget_total: "in all" };

/** A key's limits in a few words each; its end is told apart. */
export function limitWords(key: Key): string[] {
  const budgets = BUDGETS.flatMap((budget) => (key[budget] === null ? [] : [`${credits(key[budget])} ${PERIODS[budget]}`]));
  const models = key.models ?? [];
  return [
    ...budgets,
    ...(key.per_minute === null ? [] : [`${key.per_minute} ${key.per_minute === 1 ? "job" : "jobs"} a minute`]),
    ...(models.length === 0 ? [] : [models.length > 2 ? `${models.length} models` : `only ${models.join(", ")}`]),
    ...(key.privacy === "trusted" ? ["trusted machines only"] : []),
  ];
}

export type Standing = "works" | "expired" | "revoked";

export function standingOf(key: Pick<Key, "revoked_at" | "expires_at">, now: number): Standing {
  if (key.revoked_at !== null) return "revoked";
  return key.expires_at !== null && Date.parse(key.expires_at) <= now ? "expired" : "works";
}

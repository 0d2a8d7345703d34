/** What a key can be allowed (ledger/identity/people.py), in words; the first three are what a program that asks models needs. */
export const SCOPES = [
  { scope: "jobs:write", name: "Submit jobs", says: "and cancel them; this spends credits" },
  { scope: "jobs:read", name: "Read jobs", says: "with their prompts and answers" },
  { scope: "wallet:read", name: "Read the wallet", says: "balance, statement, earnings" },
  { scope: "payments:write", name: "Move money", says: "deposits and withdrawals; with a second factor keys cannot withdraw" },
  { scope: "keys:write", name: "Manage keys", says: "make, change and revoke API keys, this one too" },
  { scope: "nodes:read", name: "Read machines", says: "their state and what was found about them" },
  { scope: "nodes:write", name: "Manage machines", says: "codes for agents, rename, pause, deregister" },
] as const;

export type Scope = (typeof SCOPES)[number]["scope"];
export const USUAL: readonly Scope[] = ["jobs:write", "jobs:read", "wallet:read"];

/** A scope's name for people; one that this page does not know is shown as it is. */
export function scopeName(scope: string): string {
  return SCOPES.find((one) => one.scope === scope)?.name ?? scope;
}

import type { IconName } from "../../components/Icon.tsx";
import type { Tone } from "../../components/Status.tsx";
import type { Admission, Appeal, Audits } from "../provider/queries.ts";
import { sentence } from "../provider/standing.ts";

/** Findings and what followed, in words for who owns the machine. Pure. */

type Verdict = Audits["results"][number];

const RULES: Record<string, string> = {
  A: "the model, at temperature 0",
  B: "the model, in sampled text",
  count: "the counting of tokens",
};

/** What an audit came to: its word, and what it looked at. */
export function verdictOf(verdict: Pick<Verdict, "is_flagged" | "rule">): { tone: Tone; word: string; about: string } {
  const about = RULES[verdict.rule] ?? "nothing that could be judged";
  if (verdict.is_flagged) return { tone: "bad", word: "Flagged", about };
  return verdict.rule === "none" ? { tone: "none", word: "Not to be judged", about } : { tone: "ok", word: "As it should be", about };
}

const STEPS: Record<string, readonly [IconName, string]> = {
  reaudit: ["eye", "Its next jobs are audited"],
  quarantine: ["alert", "Quarantine"],
  ban: ["alert", "Ban"],
  promote: ["check", "Rose to a higher tier"],
  lift: ["check", "The quarantine ended"],
  pardon: ["check", "Pardoned"],
  pause: ["pause", "Paused"],
  admit: ["check", "A model was admitted"],
  not_admitted: ["alert", "A model was not admitted"],
  retest: ["refresh", "A model is tested again"],
};

/** A step's icon and name; a newer platform may know more steps. */
export function stepOf(step: string): readonly [IconName, string] {
  return STEPS[step] ?? ["info", step];
}

const APPEALS: Record<Appeal["state"], readonly [Tone, string]> = {
  OPEN: ["busy", "An operator looks at it"],
  UPHELD: ["ok", "You were right"],
  REFUSED: ["bad", "Refused"],
};

export function appealOf(state: Appeal["state"]): readonly [Tone, string] {
  return APPEALS[state];
}

/** Whether there is anything to object to, and no objection is open. The ledger decides; this only says what to show. */
export function mayAppeal(
  said: Pick<Audits, "strikes" | "state" | "appeal">,
  admissions: readonly Pick<Admission, "state" | "again_at">[],
): boolean {
  const isStopped = said.state === "quarantined" || said.state === "banned";
  const isRefused = admissions.some((one) => one.state === "refused" && one.again_at === null);
  return (said.strikes > 0 || isStopped || isRefused) && said.appeal?.state !== "OPEN";
}

/** Whether jobs for a model may come; `isOffered` undefined: nobody has told yet. */
export function offering(isOffered: boolean | undefined, test: Admission["state"] | undefined): { tone: Tone; word: string } {
  if (isOffered === undefined) return { tone: "none", word: "Unknown" };
  if (isOffered) return { tone: "ok", word: "Offered" };
  if (test === "testing") return { tone: "busy", word: "Being tested" };
  return test === "refused" ? { tone: "bad", word: "Not admitted" } : { tone: "warn", word: "Not offered" };
}

/** Every sentence about a model, none twice. */
export function whyOf(...texts: readonly (string | undefined)[]): string {
  return [...new Set(texts.flatMap((text) => (text ? [sentence(text)] : [])))].join(" ");
}

import type { Job } from "../queries.ts";

/** How fast an answer came. Pure. Times are milliseconds. */

export interface Seen {
  submittedAt: number | undefined;
  firstAt: number | undefined;
  endedAt: number | undefined;
  /** Whether all of it was heard as it came. */
  isWhole: boolean;
}

/** From submitting to the first words, in seconds, as somebody saw it who waited here. */
export function firstTokenS({ submittedAt, firstAt }: Seen): number | undefined {
  return submittedAt === undefined || firstAt === undefined ? undefined : (firstAt - submittedAt) / 1000;
}

/** Tokens per second: from the first words to the end where that was seen, else from the start on the machine to the end. */
export function tokensPerS(job: Pick<Job, "usage" | "started_at" | "completed_at">, seen?: Seen): number | undefined {
  const tokens = job.usage?.completion_tokens;
  if (!tokens) return undefined;
  const wasSeen = seen?.isWhole && seen.firstAt !== undefined && seen.endedAt !== undefined && tokens > 1;
  const [count, ms] = wasSeen
    ? [tokens - 1, (seen.endedAt ?? 0) - (seen.firstAt ?? 0)]
    : [tokens, between(job.started_at, job.completed_at)];
  return ms === undefined || ms <= 0 ? undefined : (count * 1000) / ms;
}

/** Milliseconds between two moments of the API. */
export function between(from: string | null, to: string | null): number | undefined {
  return from === null || to === null ? undefined : Math.max(0, Date.parse(to) - Date.parse(from));
}

/** A span for people: `0.42 s`, `12 s`, `3 min 5 s`. */
export function spanText(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(seconds < 1 ? 2 : 1)}\u00a0s`;
  if (seconds < 60) return `${Math.round(seconds)}\u00a0s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}\u00a0min ${whole % 60}\u00a0s`;
}

/** How fast jobs come, counted by this page: the APIs tell how many there were so far. */

export interface Sample {
  atMs: number;
  /** Jobs that were ever taken. */
  jobs: number;
}

/** What is counted over. */
export const WINDOW_MS = 5 * 60_000;
const LEAST_MS = 9_000; // a shorter look says nothing
const APART_MS = 1_000;
const MINUTE_MS = 60_000;

/** Put a sample to those of the last minutes; the samples before a count that went back (another database) say nothing. */
export function sampled(samples: readonly Sample[], sample: Sample): readonly Sample[] {
  const last = samples.at(-1);
  if (last && sample.atMs - last.atMs < APART_MS) return samples;
  const before = last && sample.jobs < last.jobs ? [] : samples;
  return [...before.filter((one) => sample.atMs - one.atMs <= WINDOW_MS), sample];
}

/** Jobs per minute over the samples; undefined: it was not looked for long enough. */
export function perMinute(samples: readonly Sample[]): number | undefined {
  const [first, last] = [samples[0], samples.at(-1)];
  if (first === undefined || last === undefined || last.atMs - first.atMs < LEAST_MS) return undefined;
  return ((last.jobs - first.jobs) * MINUTE_MS) / (last.atMs - first.atMs);
}

export interface Totals {
  jobs: number;
  completed: number;
  /** Jobs that wait or run. */
  open: number;
}

/** The share of ended jobs that brought no whole answer: failed or canceled. The three counts are read a little apart, so it is never below zero. */
export function shareWithoutAnswer({ jobs, completed, open }: Totals): number | undefined {
  const ended = Math.max(completed, jobs - open);
  return ended === 0 ? undefined : (ended - completed) / ended;
}

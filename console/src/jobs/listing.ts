import type { JobRow } from "../live/messages.ts";
import { isOpen } from "../live/news.ts";
import type { JobFilter, JobPage } from "../queries.ts";

/** Lists of jobs from two sources: pages that were asked for, and what the socket told since. Pure. */

/** Each job once, in its newest state, the newest job first: an end is final, whoever tells it. */
export function together(...sources: readonly (readonly JobRow[])[]): JobRow[] {
  const known = new Map<string, JobRow>();
  for (const row of sources.flat()) {
    const before = known.get(row.id);
    if (before === undefined || rank(row) >= rank(before)) known.set(row.id, row);
  }
  return [...known.values()].sort(newestFirst);
}

const RANKS: Record<JobRow["status"], number> = { PENDING: 0, RUNNING: 1, COMPLETED: 2, FAILED: 2, CANCELED: 2 };

function rank(row: JobRow): number {
  return RANKS[row.status];
}

/** By code units, as the platform orders: ids grow with time, and tell apart what began in the same moment. */
function newestFirst(a: JobRow, b: JobRow): number {
  const [one, other] = [a.created_at + a.id, b.created_at + b.id];
  return one < other ? 1 : one > other ? -1 : 0;
}

/** The jobs that are open now. */
export function openOf(...sources: readonly (readonly JobRow[])[]): JobRow[] {
  return together(...sources).filter(isOpen);
}

/**
 * A list by pages with what is new. Jobs older than the last page that was read are left out, for they come with the pages after it: so each
 * job is there once, whatever arrives while one pages.
 */
export function listed(pages: readonly JobPage[], live: readonly JobRow[], filter: JobFilter = {}): JobRow[] {
  const read = pages.flatMap((page) => page.results);
  const last = read.at(-1);
  const isLast = pages.at(-1)?.next === null;
  const fits = (row: JobRow) =>
    (filter.status === undefined || row.status === filter.status) && (filter.model === undefined || row.model === filter.model);
  const isWithin = (row: JobRow) => isLast || (last !== undefined && newestFirst(row, last) <= 0);
  return together(
    read,
    live.filter((row) => isWithin(row)),
  ).filter(fits);
}

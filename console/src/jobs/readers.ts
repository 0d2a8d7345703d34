import { serveFetch } from "../client/api.ts";
import { live } from "../live/live.ts";
import { keys, queryClient } from "../queries.ts";
import { session } from "../session/session.ts";
import { JobReader } from "./reader.ts";
import type { EndedJob } from "./reading.ts";

/** The readers of this tab, one per job: what was read is there when somebody comes back, in memory alone. */

const KEPT = 30;
const readers = new Map<string, JobReader>();

export function readerOf(id: string): JobReader {
  const known = readers.get(id);
  if (known !== undefined) return known;
  const reader = new JobReader({
    open: (from, signal) => serveFetch(`/api/computing/jobs/${encodeURIComponent(id)}/stream/?from=${from}`, { signal }),
    ended,
    now: () => performance.now(),
    random: Math.random,
  });
  readers.set(id, reader);
  for (const oldest of [...readers.keys()].slice(0, Math.max(0, readers.size - KEPT))) {
    readers.get(oldest)?.stop();
    readers.delete(oldest);
  }
  return reader;
}

/** The stream tells the end before the socket may: put it where pages look. */
function ended({ counted_by: _, ...job }: EndedJob): void {
  queryClient.setQueryData(keys.job(job.id), job);
  void queryClient.invalidateQueries({ queryKey: keys.wallet });
  if (live.state().connection === "open") return;
  void queryClient.invalidateQueries({ queryKey: keys.jobs });
  void queryClient.invalidateQueries({ queryKey: keys.openJobs });
}

let readFor: string | undefined;
session.subscribe(() => {
  const who = session.state().claims?.sub;
  if (who === readFor) return;
  readFor = who;
  for (const reader of readers.values()) reader.stop();
  readers.clear();
});

import type { InfiniteData, QueryClient } from "@tanstack/react-query";
import type { Stats } from "../market/market.ts";
import { type Job, type JobPage, type JobRow, keys } from "../queries.ts";
import type { JobNews, Message } from "./messages.ts";
import { isOpen, type News } from "./news.ts";
import { stale } from "./stale.ts";

/** Keeps the cache of queries true: puts in what messages say, and lets be asked again what they only hint at. */
export function cacheTold(queries: QueryClient, messages: readonly Message[], before: News): void {
  for (const message of messages) {
    if (message.type === "job_update") jobTold(queries, message.job, before);
    // After a long break what changed is not told one by one.
    else if (message.type === "jobs_update" && before.seq !== undefined) stale(queries, keys.jobs, keys.openJobs, keys.wallet);
    else if (message.type === "balance_update") stale(queries, keys.wallet, keys.profile);
    else if (message.type === "provider_stats_update") stale(queries, keys.earnings, keys.providerStats, keys.wallet);
    else if (message.type === "models_update") stale(queries, keys.models);
    else if (message.type === "stats_update") {
      const { type: _, waiting_jobs: __, ...stats } = message;
      queries.setQueryData<Stats>(keys.stats, (known) => ({ ...known, ...stats }));
    }
  }
}

function jobTold(queries: QueryClient, job: JobNews, before: News): void {
  const known = before.jobs.find((one) => one.id === job.id);
  queries.setQueryData<Job>(keys.job(job.id), (shown) => shown && { ...shown, ...rowIn(job) });
  queries.setQueryData<JobRow[]>(keys.openJobs, (rows) => rows && opened(rows, job));
  queries.setQueriesData<InfiniteData<JobPage>>({ queryKey: keys.jobs }, (pages) => pages && patched(pages, job));
  if (!isOpen(job)) stale(queries, keys.job(job.id), keys.jobWhy(job.id)); // its answer, its node and its usage are not told here
  if (known === undefined && isOpen(job)) stale(queries, keys.wallet); // submitted elsewhere: something is held
}

/** What a row and a detail have in common; a row's prompt is cut. */
function rowIn(job: JobNews): Partial<Job> {
  const { status, cost, completed_at } = job;
  return { status, ...(cost === undefined ? {} : { cost }), ...(completed_at === undefined ? {} : { completed_at }) };
}

/** The open jobs with what is new: one that ended stays, and says so, until they are asked for again. */
function opened(rows: JobRow[], job: JobNews): JobRow[] {
  if (rows.some((row) => row.id === job.id)) return rows.map((row) => (row.id === job.id ? { ...row, ...job } : row));
  return isOpen(job) && job.created_at !== undefined ? [job as JobRow, ...rows] : rows;
}

function patched(pages: InfiniteData<JobPage>, job: JobNews): InfiniteData<JobPage> {
  if (!Array.isArray(pages.pages) || !pages.pages.some((page) => page.results.some((row) => row.id === job.id))) return pages;
  const results = (page: JobPage) => page.results.map((row) => (row.id === job.id ? { ...row, ...job } : row));
  return { ...pages, pages: pages.pages.map((page) => ({ ...page, results: results(page) })) };
}

import type { Figures, JobRow, Message, ModelNodes } from "./messages.ts";

/** What the socket has told so far. Pure: a message in, the next state out. */
export interface News {
  /** The highest number heard: where to go on after a break. */
  readonly seq: number | undefined;
  /** The newest jobs, the newest first. */
  readonly jobs: readonly JobRow[];
  readonly figures: Figures | undefined;
  readonly models: readonly ModelNodes[] | undefined;
}

export const NOTHING: News = { seq: undefined, jobs: [], figures: undefined, models: undefined };
const KEPT_JOBS = 100;

export function told(news: News, message: Message): News {
  switch (message.type) {
    case "jobs_update":
      return { ...news, seq: highest(news.seq, message.seq), jobs: message.jobs };
    case "job_update":
      return { ...news, seq: highest(news.seq, message.seq), jobs: merged(news.jobs, message.job) };
    case "beat":
      return { ...news, seq: highest(news.seq, message.seq) };
    case "stats_update": {
      const { type: _, ...figures } = message;
      return { ...news, figures };
    }
    case "models_update":
      return { ...news, models: message.models };
    default:
      return news;
  }
}

function highest(one: number | undefined, other: number): number {
  return one === undefined ? other : Math.max(one, other);
}

/** Put what changed over the job that is there; a job that is not there yet comes to the front, once its whole row was told. */
function merged(jobs: readonly JobRow[], change: Partial<JobRow> & Pick<JobRow, "id">): readonly JobRow[] {
  if (jobs.some((job) => job.id === change.id)) return jobs.map((job) => (job.id === change.id ? { ...job, ...change } : job));
  if (change.created_at === undefined) return jobs;
  return [change as JobRow, ...jobs].sort((a, b) => b.created_at.localeCompare(a.created_at)).slice(0, KEPT_JOBS);
}

export function isOpen(job: Pick<JobRow, "status">): boolean {
  return job.status === "PENDING" || job.status === "RUNNING";
}

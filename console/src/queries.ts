import { infiniteQueryOptions, QueryClient, queryOptions } from "@tanstack/react-query";
import { answer } from "./client/answer.ts";
import { ledger, serve } from "./client/api.ts";
import type { components as Ledger } from "./client/ledger.d.ts";
import { asProblem } from "./client/problem.ts";
import type { components as Serve } from "./client/serve.d.ts";
import { config } from "./config.ts";
import type { JobStatus } from "./jobs/states.ts";
import { askModels, askPrices, askStats } from "./market/market.ts";

/** What pages ask for, by name: one place for keys, so that live news and writes reach every page that shows the same. */

export type Job = Serve["schemas"]["Job"];
export type JobPage = Serve["schemas"]["JobPage"];
export type JobRow = Serve["schemas"]["JobRow"];
export type JobWhy = Serve["schemas"]["JobWhy"];
export type NodePage = Serve["schemas"]["NodePage"];
export type Profile = Ledger["schemas"]["ProfileAnswer"];
export type Wallet = Ledger["schemas"]["WalletAnswer"];

/** Which jobs. */
export interface JobFilter {
  status?: JobStatus;
  model?: string;
}

export const keys = {
  config: ["config"],
  stats: ["stats"],
  models: ["models"],
  prices: ["prices"],
  profile: ["profile"],
  wallet: ["wallet"],
  /** All pages of jobs, whatever their filter. */
  jobs: ["jobs"],
  job: (id: string) => ["job", id] as const,
  jobWhy: (id: string) => ["job-why", id] as const,
  /** The jobs that wait or run. */
  openJobs: ["open-jobs"],
  nodes: ["nodes"],
  earnings: ["earnings"],
  providerStats: ["provider-stats"],
  sessions: ["sessions"],
  apiKeys: ["api-keys"],
} as const;

const FEW = 8;
const MOST = 100; // as many as an account may have open

/** The jobs in one state, as many as one page holds. */
const jobsIn = async (status: JobStatus): Promise<JobRow[]> =>
  (await answer(serve.GET("/api/computing/jobs/", { params: { query: { status, limit: MOST } } }))).results;

export const queries = {
  config: queryOptions({ queryKey: keys.config, queryFn: config, staleTime: Number.POSITIVE_INFINITY }),
  // Everybody may ask for these three.
  stats: queryOptions({ queryKey: keys.stats, queryFn: askStats }),
  models: queryOptions({ queryKey: keys.models, queryFn: askModels }),
  prices: queryOptions({ queryKey: keys.prices, queryFn: askPrices }),
  profile: queryOptions({ queryKey: keys.profile, queryFn: () => answer(ledger.GET("/api/core/profile/")) }),
  wallet: queryOptions({
    queryKey: keys.wallet,
    queryFn: () => answer(ledger.GET("/api/payments/wallet/", { params: { query: { limit: FEW } } })),
  }),
  jobs: (filter: JobFilter = {}) =>
    infiniteQueryOptions({
      queryKey: [...keys.jobs, filter],
      queryFn: ({ pageParam }) =>
        answer(serve.GET("/api/computing/jobs/", { params: { query: { ...filter, ...(pageParam ? { cursor: pageParam } : {}) } } })),
      initialPageParam: "",
      getNextPageParam: (page: JobPage) => page.next,
    }),
  job: (id: string) =>
    queryOptions({ queryKey: keys.job(id), queryFn: () => answer(serve.GET("/api/computing/jobs/{id}/", { params: { path: { id } } })) }),
  jobWhy: (id: string) =>
    queryOptions({
      queryKey: keys.jobWhy(id),
      queryFn: () => answer(serve.GET("/api/computing/jobs/{id}/why/", { params: { path: { id } } })),
    }),
  openJobs: queryOptions({
    queryKey: keys.openJobs,
    queryFn: async () => (await Promise.all([jobsIn("PENDING"), jobsIn("RUNNING")])).flat(),
  }),
  nodes: queryOptions({ queryKey: keys.nodes, queryFn: () => answer(serve.GET("/api/computing/nodes/")) }),
};

const TRIES = 3;
const LONGEST_WAIT_MS = 15_000;

/** The cache. A problem that passes is tried again, when the API says it is worth it; one that does not is shown at once. */
export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      retry: (failures, thrown) => failures < TRIES - 1 && asProblem(thrown).isPassing,
      retryDelay: (failures, thrown) => Math.min(LONGEST_WAIT_MS, (asProblem(thrown).retryAfterS ?? 2 ** failures) * 1000),
    },
    mutations: { retry: false },
  },
});

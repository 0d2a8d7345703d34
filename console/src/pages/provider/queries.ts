import { infiniteQueryOptions, keepPreviousData, queryOptions } from "@tanstack/react-query";
import { answer } from "../../client/answer.ts";
import { ledger, serve } from "../../client/api.ts";
import type { components as Ledger } from "../../client/ledger.d.ts";
import type { components as Serve } from "../../client/serve.d.ts";
import { keys } from "../../queries.ts";

/** What the provider's pages ask for. Whose a node is, its state and its tier the ledger tells; how it is now the job API tells. */

export type OwnNode = Ledger["schemas"]["NodeAnswer"];
export type OwnNodePage = Ledger["schemas"]["NodePage"];
export type Admission = Ledger["schemas"]["ModelAdmission"];
export type LiveNode = Serve["schemas"]["NodeRow"];
export type Gpu = LiveNode["gpus"][number];
export type LiveModel = LiveNode["models"][number];
export type WhyNoJobs = Serve["schemas"]["WhyNoJobs"];
export type ProviderStats = Serve["schemas"]["ProviderStats"];
export type Earnings = Ledger["schemas"]["EarningsAnswer"];
export type Escrow = Ledger["schemas"]["EscrowAnswer"];
export type Audits = Ledger["schemas"]["NodeAudits"];
export type Appeal = Ledger["schemas"]["AppealRow"];
export type AgentToken = Ledger["schemas"]["AgentTokenRow"];
export type AgentTokenPage = Ledger["schemas"]["AgentTokenPage"];
export type MadeAgentToken = Ledger["schemas"]["MadeAgentToken"];

/** How often to ask for what no socket tells. */
const LIVE_MS = 5_000;
const SLOW_MS = 20_000;

const PAGE = 100; // the API's largest
/** How far a look-up goes through pages: so many nodes, and so many codes, has nobody. */
const MOST_PAGES = 20;

interface Page<Row> {
  results: Row[];
  next: string | null;
}

/** Every row of a list, page by page; `isEnough` ends it sooner. */
export async function rowsOf<Row>(
  page: (cursor?: string) => Promise<Page<Row>>,
  isEnough: (row: Row) => boolean = () => false,
): Promise<Row[]> {
  const rows: Row[] = [];
  let cursor: string | undefined;
  for (let pages = 0; pages < MOST_PAGES; pages += 1) {
    const { results, next } = await page(cursor);
    rows.push(...results);
    if (next === null || results.some(isEnough)) break;
    cursor = next;
  }
  return rows;
}

const paged = (cursor?: string) => ({ limit: PAGE, ...(cursor ? { cursor } : {}) });

const ownNodes = (cursor?: string): Promise<OwnNodePage> => answer(ledger.GET("/api/core/nodes/", { params: { query: paged(cursor) } }));
const liveNodes = (cursor?: string) => answer(serve.GET("/api/computing/nodes/", { params: { query: paged(cursor) } }));
const agentTokens = (cursor?: string): Promise<AgentTokenPage> =>
  answer(ledger.GET("/api/core/agent-token/list/", { params: { query: paged(cursor) } }));

/** Everything about codes and the agents that used them. */
export const TOKENS = ["agent-tokens"] as const;
const AUDITS = ["audits"] as const;

export const provider = {
  /** One's nodes by pages, the newest first. */
  nodes: infiniteQueryOptions({
    queryKey: [...keys.nodes, "own"],
    queryFn: ({ pageParam }) => answer(ledger.GET("/api/core/nodes/", { params: { query: pageParam ? { cursor: pageParam } : {} } })),
    initialPageParam: "",
    getNextPageParam: (page: OwnNodePage) => page.next,
    refetchInterval: SLOW_MS,
  }),
  /** One of them; null: there is none with this id. */
  node: (id: string) =>
    queryOptions({
      queryKey: [...keys.nodes, "own", "one", id],
      queryFn: async (): Promise<OwnNode | null> =>
        (await rowsOf(ownNodes, (node) => node.id === id)).find((node) => node.id === id) ?? null,
      refetchInterval: LIVE_MS,
    }),
  /** How all of them are now, by id. */
  live: queryOptions({
    queryKey: [...keys.nodes, "live"],
    queryFn: async () => new Map((await rowsOf<LiveNode>(liveNodes)).map((node) => [node.id, node])),
    refetchInterval: LIVE_MS,
  }),
  why: (id: string) =>
    queryOptions({
      queryKey: [...keys.nodes, "why", id],
      queryFn: () => answer(serve.GET("/api/computing/nodes/{id}/why/", { params: { path: { id } } })),
      refetchInterval: LIVE_MS,
    }),
  audits: (id: string) =>
    infiniteQueryOptions({
      queryKey: [...AUDITS, id],
      queryFn: ({ pageParam }) =>
        answer(
          ledger.GET("/api/core/nodes/{node_id}/audits/", {
            params: { path: { node_id: id }, query: pageParam ? { cursor: pageParam } : {} },
          }),
        ),
      initialPageParam: "",
      getNextPageParam: (page: Audits) => page.next,
      refetchInterval: SLOW_MS,
    }),
  earnings: (days: number) =>
    queryOptions({
      queryKey: [...keys.earnings, days],
      queryFn: () => answer(ledger.GET("/api/payments/earnings/", { params: { query: { days } } })),
      placeholderData: keepPreviousData, // another period: the old one stays until it is there
      refetchInterval: SLOW_MS,
    }),
  stats: (days: number) =>
    queryOptions({
      queryKey: [...keys.providerStats, days],
      queryFn: () => answer(serve.GET("/api/computing/provider-stats/", { params: { query: { days } } })),
      placeholderData: keepPreviousData,
      refetchInterval: SLOW_MS,
    }),
  tokens: infiniteQueryOptions({
    queryKey: [...TOKENS, "pages"],
    queryFn: ({ pageParam }) =>
      answer(ledger.GET("/api/core/agent-token/list/", { params: { query: pageParam ? { cursor: pageParam } : {} } })),
    initialPageParam: "",
    getNextPageParam: (page: AgentTokenPage) => page.next,
  }),
  /** The newest codes: what became of one that was made just now. */
  newestTokens: queryOptions({
    queryKey: [...TOKENS, "newest"],
    queryFn: async () => (await answer(ledger.GET("/api/core/agent-token/list/"))).results,
  }),
};

/** The token that a node's agent uses now, wherever in the list it stands. */
export async function tokenOf(node: string): Promise<AgentToken | undefined> {
  const isIts = (token: AgentToken) => token.node_id === node && token.last_used !== null && token.revoked_at === null;
  return (await rowsOf(agentTokens, isIts)).find(isIts);
}

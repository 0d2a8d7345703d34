import { type InfiniteData, infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { answer } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import type { components } from "../../client/ledger.d.ts";
import { listNodes } from "./nodes/api.ts";

/** What operators ask for, by name. Every key begins with `admin`. */

type Schemas = components["schemas"];
export type Person = Schemas["PersonRow"];
export type Withdrawal = Schemas["WithdrawalRow"];
export type Correction = Schemas["CorrectionRow"];
export type Hold = Schemas["HoldRow"];
export type CatalogModel = Schemas["CatalogRow"];
export type Suspect = Schemas["SuspectRow"];
export type Verdict = Schemas["VerdictRow"];
export type Appeal = Schemas["AppealRow"];
export type LogLine = Schemas["ledger__api__admin_shapes__LogRow"];
export type Tool = Schemas["ToolRow"];
export type Findings = Schemas["Findings"];
export type WithdrawalStatus = "PENDING" | "SUCCESS" | "FAILED";
export type AppealState = Appeal["state"];

export interface PageOf<Row> {
  results: Row[];
  next: string | null;
}

export const keys = {
  users: ["admin", "users"],
  user: (id: string) => ["admin", "user", id] as const,
  withdrawals: ["admin", "withdrawals"],
  corrections: ["admin", "corrections"],
  holds: ["admin", "holds"],
  tools: ["admin", "tools"],
  catalog: ["admin", "catalog"],
  nodes: ["admin", "nodes"],
  suspects: ["admin", "suspects"],
  verdicts: ["admin", "verdicts"],
  appeals: ["admin", "appeals"],
  books: ["admin", "books"],
  log: ["admin", "log"],
  logPages: ["admin", "log", "pages"],
  chain: ["admin", "log", "chain"],
  logOf: (requestId: string) => ["admin", "log", "of", requestId] as const,
} as const;

const NODES_EVERY_MS = 5_000;
const MOST_SUSPECTS = 100;
/** Lines of the audit log per page: the most that the API gives at once, because it filters nothing itself. */
export const LOG_PAGE = 100;

/** A row that leaves its list takes its dialog along: while one is open, nothing is read anew just because somebody looked elsewhere. */
const noDialog = () => document.querySelector("[data-modal-content]") === null;
const CALM = { refetchOnWindowFocus: noDialog, refetchOnReconnect: noDialog };

/** A list by pages, each told by the one before. */
function paged<Row>(queryKey: readonly unknown[], ask: (cursor: { cursor?: string }) => Promise<PageOf<Row>>) {
  return infiniteQueryOptions({
    ...CALM,
    queryKey,
    queryFn: ({ pageParam }) => ask(pageParam ? { cursor: pageParam } : {}),
    initialPageParam: "",
    getNextPageParam: (page: PageOf<Row>) => page.next,
  });
}

/** Everything read of a list so far. */
export function rowsOf<Row>(data: InfiniteData<PageOf<Row>>): Row[] {
  return data.pages.flatMap((page) => page.results);
}

export const queries = {
  users: (q: string) =>
    paged<Person>([...keys.users, q], (cursor) => answer(ledger.GET("/api/admin/users/", { params: { query: { q, ...cursor } } }))),
  user: (user_id: string) =>
    queryOptions({
      queryKey: keys.user(user_id),
      queryFn: () => answer(ledger.GET("/api/admin/users/{user_id}/", { params: { path: { user_id } } })),
    }),
  withdrawals: (status: WithdrawalStatus | undefined) =>
    paged<Withdrawal>([...keys.withdrawals, status ?? "ALL"], (cursor) =>
      answer(ledger.GET("/api/admin/withdrawals/", { params: { query: { ...(status ? { status } : {}), ...cursor } } })),
    ),
  corrections: paged<Correction>(keys.corrections, (cursor) =>
    answer(ledger.GET("/api/admin/corrections/", { params: { query: cursor } })),
  ),
  holds: paged<Hold>(keys.holds, (cursor) => answer(ledger.GET("/api/admin/holds/", { params: { query: cursor } }))),
  tools: queryOptions({
    ...CALM,
    queryKey: keys.tools,
    queryFn: () => answer(ledger.GET("/api/admin/tools/")),
    staleTime: Number.POSITIVE_INFINITY,
  }),
  catalog: queryOptions({ ...CALM, queryKey: keys.catalog, queryFn: () => answer(ledger.GET("/api/admin/catalog/")) }),
  nodes: queryOptions({ queryKey: keys.nodes, queryFn: listNodes, refetchInterval: NODES_EVERY_MS }),
  suspects: paged<Suspect>(keys.suspects, (cursor) =>
    answer(ledger.GET("/api/admin/suspect-nodes/", { params: { query: { limit: MOST_SUSPECTS, ...cursor } } })),
  ),
  verdicts: (node_id: string, flagged: boolean | undefined) =>
    paged<Verdict>([...keys.verdicts, node_id, flagged ?? "all"], (cursor) =>
      answer(
        ledger.GET("/api/admin/verdicts/", {
          params: { query: { node_id, ...(flagged === undefined ? {} : { flagged }), ...cursor } },
        }),
      ),
    ),
  appeals: (state: AppealState | undefined) =>
    paged<Appeal>([...keys.appeals, state ?? "ALL"], (cursor) =>
      answer(ledger.GET("/api/admin/appeals/", { params: { query: { ...(state ? { state } : {}), ...cursor } } })),
    ),
  log: paged<LogLine>(keys.logPages, ({ cursor }) => askLog(cursor)),
};

/** A page of the audit log, newest first; `before`: what the page before told as its next. */
export function askLog(before?: string): Promise<PageOf<LogLine>> {
  const query = { limit: LOG_PAGE, ...(before ? { before: Number(before) } : {}) };
  return answer(ledger.GET("/api/admin/audit-log/", { params: { query } }));
}

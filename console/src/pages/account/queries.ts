import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { answer } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import type { components } from "../../client/ledger.d.ts";
import { keys } from "../../queries.ts";

/** What the account's pages ask for beside the profile. */

export type SessionRow = components["schemas"]["SessionRow"];
type SessionPage = components["schemas"]["SessionPage"];
export type Key = components["schemas"]["KeyRowAnswer"];
type KeyPage = components["schemas"]["Keys"];

const ROWS = 20;

const paged = (cursor: string) => ({ limit: ROWS, ...(cursor ? { cursor } : {}) });

export const account = {
  links: queryOptions({ queryKey: ["links"], queryFn: () => answer(ledger.GET("/api/core/oauth/")) }),
  /** Where one is signed in, by pages, the newest first. */
  sessions: infiniteQueryOptions({
    queryKey: keys.sessions,
    queryFn: ({ pageParam }) => answer(ledger.GET("/api/core/sessions/", { params: { query: paged(pageParam) } })),
    initialPageParam: "",
    getNextPageParam: (page: SessionPage) => page.next,
  }),
  /** One's API keys by pages, the newest first. */
  keys: infiniteQueryOptions({
    queryKey: keys.apiKeys,
    queryFn: ({ pageParam }) => answer(ledger.GET("/api/core/keys/", { params: { query: paged(pageParam) } })),
    initialPageParam: "",
    getNextPageParam: (page: KeyPage) => page.next,
  }),
};

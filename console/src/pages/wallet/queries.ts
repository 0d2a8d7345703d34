import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { answer } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import type { components } from "../../client/ledger.d.ts";
import { keys, type Wallet } from "../../queries.ts";
import type { Kind } from "./kinds.ts";

/** What the wallet's page asks for beside the balance. All keys begin as the wallet's does: news of a balance has all of it asked again. */

export type Transaction = components["schemas"]["Transaction"];
type TransactionPage = components["schemas"]["Transactions"];

const ROWS = 20;
const FEW = 5;
const AGAIN_MS = 2_000;

export const LOG = [...keys.wallet, "log"];
export const TRANSACTIONS = [...keys.wallet, "transactions"];

export const wallet = {
  /** Entries by pages, the newest first. */
  log: (kind?: Kind) =>
    infiniteQueryOptions({
      queryKey: [...LOG, kind ?? ""],
      queryFn: ({ pageParam }) =>
        answer(
          ledger.GET("/api/payments/wallet/", {
            params: { query: { limit: ROWS, ...(kind ? { kind } : {}), ...(pageParam ? { cursor: pageParam } : {}) } },
          }),
        ),
      initialPageParam: "",
      getNextPageParam: (page: Wallet) => page.next,
    }),
  /** Deposits and withdrawals by pages, the newest first. */
  transactions: infiniteQueryOptions({
    queryKey: TRANSACTIONS,
    queryFn: ({ pageParam }) =>
      answer(ledger.GET("/api/payments/transactions/", { params: { query: { limit: FEW, ...(pageParam ? { cursor: pageParam } : {}) } } })),
    initialPageParam: "",
    getNextPageParam: (page: TransactionPage) => page.next,
  }),
  /** One of them, asked again until it has ended. */
  transaction: (id: string) =>
    queryOptions({
      queryKey: [...keys.wallet, "transaction", id],
      queryFn: () => answer(ledger.GET("/api/payments/transactions/{transaction_id}/", { params: { path: { transaction_id: id } } })),
      refetchInterval: ({ state }) => (state.data?.status === "PENDING" ? AGAIN_MS : false),
    }),
};

/** The whole log as CSV. */
export const statement = (kind?: Kind): Promise<string> =>
  answer(ledger.GET("/api/payments/statement.csv", { params: { query: kind ? { kind } : {} }, parseAs: "text" })) as Promise<string>;

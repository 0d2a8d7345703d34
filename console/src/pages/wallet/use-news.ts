import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { keys, queries } from "../../queries.ts";
import { LOG, TRANSACTIONS } from "./queries.ts";

const POLL_MS = 10_000;

/**
 * Keeps the page true. The socket tells of jobs alone; payments and what operators do are seen by asking for the balance now and then, and
 * an entry that is new there has the lists asked again.
 */
export function useNews(): void {
  const cache = useQueryClient();
  const { data } = useQuery({ ...queries.wallet, refetchInterval: POLL_MS });
  const newest = data?.logs[0]?.id;
  const seen = useRef(newest);
  useEffect(() => {
    if (newest === undefined || newest === seen.current) return;
    const isFirst = seen.current === undefined;
    seen.current = newest;
    if (isFirst) return;
    for (const queryKey of [LOG, TRANSACTIONS, keys.earnings]) void cache.invalidateQueries({ queryKey });
  }, [cache, newest]);
}

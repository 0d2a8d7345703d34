import { focusManager, type QueryClient, type QueryKey } from "@tanstack/react-query";

const FIRST_MS = 1_000;
const STEADY_MS = 4_000; // while changes go on coming
const PAUSE_PER_ANSWER = 10; // a server that takes long to answer is busy
const LONGEST_MS = 10_000;

interface Pause {
  isAskedAgain: boolean;
}

const pauses = new WeakMap<QueryClient, Map<string, Pause>>();

/**
 * Note that what is known of a query is old. What is shown of it is asked again: at once, then after a second, and every four seconds
 * while changes go on coming, so that a burst of jobs is no burst of requests; less often, down to every ten seconds, the longer the answer
 * took. A tab that nobody sees asks when it is looked at.
 */
export function stale(queries: QueryClient, ...asked: readonly QueryKey[]): void {
  const waiting = pauses.get(queries) ?? new Map<string, Pause>();
  pauses.set(queries, waiting);
  for (const queryKey of asked) {
    const name = JSON.stringify(queryKey);
    const pause = waiting.get(name);
    if (pause) {
      pause.isAskedAgain = true;
      void queries.invalidateQueries({ queryKey, refetchType: "none" });
    } else void askAgain(queries, waiting, queryKey, name, 0);
  }
}

async function askAgain(
  queries: QueryClient,
  waiting: Map<string, Pause>,
  queryKey: QueryKey,
  name: string,
  before: number,
): Promise<void> {
  const pause = { isAskedAgain: false };
  waiting.set(name, pause);
  const began = performance.now();
  const answered = queries.invalidateQueries({ queryKey, refetchType: focusManager.isFocused() ? "active" : "none" });
  await Promise.race([answered, new Promise((resolve) => setTimeout(resolve, LONGEST_MS))]);
  const every = Math.min(STEADY_MS, FIRST_MS * 2 ** before);
  const took = performance.now() - began;
  setTimeout(
    () => {
      waiting.delete(name);
      if (pause.isAskedAgain) void askAgain(queries, waiting, queryKey, name, before + 1);
    },
    Math.min(LONGEST_MS, Math.max(every - took, took * PAUSE_PER_ANSWER)),
  );
}

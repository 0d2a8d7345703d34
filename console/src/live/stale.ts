import { focusManager, type QueryClient, type QueryKey } from "@tanstack/react-query";

const EVERY_MS = 1_000;

interface Pause {
  isAskedAgain: boolean;
}

const pauses = new WeakMap<QueryClient, Map<string, Pause>>();

/**
 * Note that what is known of a query is old. What is shown of it is asked again: at once, and then at most once a second, so that a burst of
 * jobs is no burst of requests. A tab that nobody sees asks when it is looked at.
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
    } else askAgain(queries, waiting, queryKey, name);
  }
}

function askAgain(queries: QueryClient, waiting: Map<string, Pause>, queryKey: QueryKey, name: string): void {
  void queries.invalidateQueries({ queryKey, refetchType: focusManager.isFocused() ? "active" : "none" });
  const pause = { isAskedAgain: false };
  waiting.set(name, pause);
  setTimeout(() => {
    waiting.delete(name);
    if (pause.isAskedAgain) askAgain(queries, waiting, queryKey, name);
  }, EVERY_MS);
}

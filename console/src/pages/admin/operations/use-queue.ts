import { useQueries } from "@tanstack/react-query";
import { answer } from "../../../client/answer.ts";
import { serve } from "../../../client/api.ts";
import type { components } from "../../../client/serve.d.ts";
import { type Standing, standingOfQuote } from "./standing-of-quote.ts";

type Quote = components["schemas"]["Quote"];
const EVERY_MS = 10_000;

/**
 * How many jobs wait for each of these models, and for how long a new one would. A quote tells both, and holds nothing; it is asked for only
 * while anything waits at all. `waiting` undefined: nobody knows, so it is asked.
 */
export function useQueue(models: readonly string[], waiting: number | undefined): Record<string, Standing> {
  const isEmpty = waiting === 0;
  const quotes = useQueries({
    queries: models.map((model) => ({
      queryKey: ["admin", "queue", model],
      queryFn: (): Promise<Quote> => answer(serve.POST("/api/computing/quote/", { body: { model, prompt: "?", max_tokens: 1 } })),
      enabled: !isEmpty,
      refetchInterval: EVERY_MS,
      retry: false, // a model that no node offers is refused, and asked for again by itself
    })),
  });
  return Object.fromEntries(
    models.map((model, at) => {
      const quote = quotes[at];
      return [model, isEmpty ? standingOfQuote({ ahead: 0, estimated_s: 0 }) : standingOfQuote(quote?.error ? null : quote?.data?.wait)];
    }),
  );
}

import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { answer } from "../client/answer.ts";
import { serve } from "../client/api.ts";
import type { JobAsked } from "./request.ts";

const CALM_MS = 350; // after the last key
const AGAIN_MS = 15_000; // prices and lines change

/** The most that a request can cost and how long it is likely to wait; asked once typing has paused. Undefined `asked`: there is nothing to ask yet. */
export function useQuote(asked: JobAsked | undefined) {
  const text = asked === undefined ? undefined : JSON.stringify(asked);
  const [calm] = useDebouncedValue(text, CALM_MS);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another number for each text
  const number = useMemo(() => ++numbers, [calm]);
  return useQuery({
    queryKey: ["quote", number], // not the prompt itself: it is in no key, and forgotten with the question
    queryFn: ({ signal }) => answer(serve.POST("/api/computing/quote/", { body: JSON.parse(calm ?? "") as JobAsked, signal })),
    enabled: calm !== undefined && asked !== undefined,
    placeholderData: keepPreviousData,
    refetchInterval: AGAIN_MS,
    gcTime: 0,
    retry: false,
  });
}

let numbers = 0;

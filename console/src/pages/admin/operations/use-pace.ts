import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { queries } from "../../../queries.ts";
import { perMinute, type Sample, sampled } from "./pace.ts";

const EVERY_MS = 10_000;

/** Jobs per minute since this page was opened, over the last minutes at most. */
export function usePace(): number | undefined {
  const { data, dataUpdatedAt } = useQuery({ ...queries.stats, refetchInterval: EVERY_MS });
  const [samples, setSamples] = useState<readonly Sample[]>([]);
  const jobs = data?.total_jobs;
  useEffect(() => {
    if (jobs !== undefined) setSamples((known) => sampled(known, { atMs: dataUpdatedAt, jobs }));
  }, [jobs, dataUpdatedAt]);
  return perMinute(samples);
}

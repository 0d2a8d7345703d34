import { useQuery } from "@tanstack/react-query";
import type { JobRow } from "../live/messages.ts";
import { useLive, usePolling } from "../live/use-live.ts";
import { queries } from "../queries.ts";
import { openOf } from "./listing.ts";

const POLL_MS = 5_000;
const NONE: readonly JobRow[] = [];

/** All jobs that wait or run, live; `rows` is undefined until they were asked for once. */
export function useOpenJobs() {
  const asked = useQuery({ ...queries.openJobs, refetchInterval: usePolling(POLL_MS) });
  // What a socket told before it broke may not be so any more.
  const told = useLive((state) => (state.connection === "open" ? state.jobs : NONE));
  const rows: JobRow[] | undefined = asked.data && openOf(asked.data, told);
  return { asked, rows };
}

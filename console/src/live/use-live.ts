import { useSyncExternalStore } from "react";
import { type Live, live } from "./live.ts";

/** A part of what the socket has told; `read` must answer the same value for the same state, as `(live) => live.jobs` does. */
export function useLive<Part>(read: (state: Live) => Part): Part {
  return useSyncExternalStore(live.subscribe, () => read(live.state()));
}

/** For `refetchInterval`: how often to ask while the socket is not open; while it is, not at all. */
export function usePolling(intervalMs: number): number | false {
  return useLive((state) => (state.connection === "open" ? false : intervalMs));
}

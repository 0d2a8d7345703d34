import { useMemo, useSyncExternalStore } from "react";
import { readerOf } from "./readers.ts";
import { type Reading, UNREAD } from "./reading.ts";

const NOBODY = () => () => undefined;
const NOTHING = () => UNREAD;

/** What was read of a job, and on as it comes; not `isWanted`: nothing. */
export function useReading(id: string, isWanted = true): Reading {
  const reader = useMemo(() => (isWanted ? readerOf(id) : undefined), [id, isWanted]);
  return useSyncExternalStore(reader?.subscribe ?? NOBODY, reader?.state ?? NOTHING);
}

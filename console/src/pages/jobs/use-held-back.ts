import { type RefObject, useEffect, useRef, useState } from "react";
import type { JobRow } from "../../live/messages.ts";

interface HeldBack {
  shown: readonly JobRow[];
  /** How many new jobs are not shown yet. */
  held: number;
  show: () => void;
}

/**
 * New jobs come to the top by themselves, but not under the eyes or the hand of who reads: while the list is scrolled, pointed at or has
 * the focus, they are counted instead, and shown on demand. `list` names the list: another one begins anew.
 */
export function useHeldBack(jobs: readonly JobRow[], list: string, place: RefObject<HTMLElement | null>): HeldBack {
  const [top, setTop] = useState<{ list: string; id: string | undefined }>({ list, id: undefined });
  const isReading = useReads(place);
  const newest = jobs[0]?.id;
  const at = top.list === list && top.id !== undefined ? jobs.findIndex((job) => job.id === top.id) : 0;
  const held = isReading.current() ? Math.max(0, at) : 0;
  const show = () => setTop({ list, id: newest });
  useEffect(() => {
    if (held === 0 && newest !== undefined)
      setTop((before) => (before.list === list && before.id === newest ? before : { list, id: newest }));
  }, [held, newest, list]);
  return { shown: jobs.slice(held), held, show };
}

/** Tells whether somebody reads the list now. */
function useReads(place: RefObject<HTMLElement | null>) {
  return useRef(() => {
    const element = place.current;
    if (element === null) return false;
    return element.getBoundingClientRect().top < 0 || element.matches(":hover") || element.contains(document.activeElement);
  });
}

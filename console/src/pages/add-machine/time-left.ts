import { useEffect, useState } from "react";
import type { MadeAgentToken } from "../provider/queries.ts";
import { lifetimeMs } from "./stage.ts";

const TICK_MS = 1000;

/** Seconds that a code is still good for, from when it came; undefined: there is none. */
export function useTimeLeft(made: MadeAgentToken | undefined): number | undefined {
  const [left, setLeft] = useState<number>();
  useEffect(() => {
    if (made === undefined) {
      setLeft(undefined);
      return;
    }
    const end = performance.now() + lifetimeMs(made);
    const look = () => setLeft(Math.max(0, (end - performance.now()) / 1000));
    look();
    const timer = setInterval(look, TICK_MS);
    return () => clearInterval(timer);
  }, [made]);
  return left;
}

import { useSyncExternalStore } from "react";
import { desk, type OnDesk } from "./desk.ts";

export function useDesk(): OnDesk {
  return useSyncExternalStore(desk.subscribe, desk.state);
}

import { useSyncExternalStore } from "react";
import { type State, session } from "./session.ts";

/** Who is signed in, for a component. */
export function useSession(): State {
  return useSyncExternalStore(session.subscribe, session.state);
}

/** Whether who is signed in operates the platform. The services decide; this only says what to show. */
export function isOperator(state: State = session.state()): boolean {
  return state.claims?.scopes.includes("operator") ?? false;
}

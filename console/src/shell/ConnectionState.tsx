import { Status, type Tone } from "../components/Status.tsx";
import type { Connection } from "../live/socket.ts";
import { useLive } from "../live/use-live.ts";

const SAID: Record<Connection, readonly [Tone, string]> = {
  off: ["none", "Not live"],
  connecting: ["busy", "Connecting"],
  open: ["ok", "Live"],
  reconnecting: ["busy", "Reconnecting"],
  polling: ["warn", "Not live"],
};

/** Whether what one sees is live. */
export function ConnectionState() {
  const [tone, words] = SAID[useLive((state) => state.connection)];
  return <Status tone={tone}>{words}</Status>;
}

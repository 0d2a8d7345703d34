import { Notice } from "../components/Notice.tsx";
import { useLive } from "../live/use-live.ts";

/** Says that the live connection is lost for longer than a blink; pages then ask by themselves, less often. */
export function ConnectionNotice() {
  const connection = useLive((state) => state.connection);
  if (connection !== "polling") return null;
  return (
    <Notice kind="warn" title="Reconnecting">
      The live connection is lost for the moment. The figures are asked for every few seconds until it is back.
    </Notice>
  );
}

import { Button } from "../components/Button.tsx";
import { Failure } from "../components/Failure.tsx";
import { useStop } from "./use-stop.ts";

/** Cancels an open job: it stops within a second, and costs what was delivered. */
export function StopButton({ id, look }: { id: string; look?: "plain" | "quiet" }) {
  const stop = useStop(id);
  return (
    <>
      <Button look={look ?? "plain"} busy={stop.isPending || stop.isSuccess} onClick={() => stop.mutate()}>
        Cancel
      </Button>
      {stop.error ? <Failure problem={stop.error} what="It could not be canceled" onRetry={() => stop.mutate()} /> : null}
    </>
  );
}

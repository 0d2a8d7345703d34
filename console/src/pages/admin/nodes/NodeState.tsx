import { Status } from "../../../components/Status.tsx";
import style from "../admin.module.css";
import type { AdminNode } from "./api.ts";
import { shownAs, standingOf, stateShownAs } from "./standing.ts";

/** What a node in the cluster is doing, and why not more. */
export function NodeState({ node }: { node: AdminNode }) {
  const [tone, word] = shownAs(standingOf(node));
  return (
    <span className={style.two}>
      <Status tone={tone}>{word}</Status>
      {node.reason ? <small>{node.reason}</small> : null}
    </span>
  );
}

/** A state as the ledger tells it, and why. */
export function LedgerState({ state, reason }: { state: string; reason: string | null }) {
  const [tone, word] = stateShownAs(state);
  return (
    <span className={style.two}>
      <Status tone={tone}>{word}</Status>
      {reason ? <small>{reason}</small> : null}
    </span>
  );
}

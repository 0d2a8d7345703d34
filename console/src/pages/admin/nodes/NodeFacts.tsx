import type { ReactNode } from "react";
import { Notice } from "../../../components/Notice.tsx";
import type { Suspect } from "../queries.ts";
import type { AdminNode } from "./api.ts";
import { bytes } from "./bytes.ts";
import style from "./NodeFacts.module.css";
import { LedgerState, NodeState } from "./NodeState.tsx";
import { tierName } from "./tiers.ts";

/** What is known about a node: by the cluster while it is there, by the ledger when there is something to look at. */
export function NodeFacts({ node, suspect }: { node: AdminNode | undefined; suspect: Suspect | undefined }) {
  if (!node && !suspect) {
    return (
      <Notice title="The cluster does not know this node now">
        It is not connected, and nothing was found about it that an operator should look at. What audits found stands below.
      </Notice>
    );
  }
  return (
    <dl className={style.facts}>
      {node ? <Fact name="In the cluster">{<NodeState node={node} />}</Fact> : <Fact name="In the cluster">not connected</Fact>}
      {suspect ? (
        <>
          <Fact name="In the ledger">
            <LedgerState state={suspect.state} reason={suspect.state_reason} />
          </Fact>
          <Fact name="Tier">{tierName(suspect.tier)}</Fact>
          <Fact name="Strikes">{suspect.strikes}</Fact>
          <Fact name="Count alarms">{suspect.count_alarms}</Fact>
          <Fact name="Appeal">{suspect.has_open_appeal ? "waits for an answer" : "none is open"}</Fact>
        </>
      ) : null}
      <Fact name="Provider">{node?.provider ?? suspect?.owner ?? "the platform"}</Fact>
      {node ? (
        <>
          <Fact name="Kind">{node.kind === "trusted" ? "Trusted" : "Edge"}</Fact>
          <Fact name="Running">
            {node.running} of {node.slots} slots
          </Fact>
          <Fact name="Runtime">{node.runtime || "not told"}</Fact>
          <Fact name="GPUs">
            {node.gpus.length === 0 ? "none" : node.gpus.map((gpu) => `${gpu.name} (${bytes(gpu.memory_bytes)})`).join(", ")}
          </Fact>
          {node.zone ? <Fact name="Zone">{node.zone}</Fact> : null}
          {node.operation ? <Fact name="Under way">{node.operation}</Fact> : null}
        </>
      ) : null}
    </dl>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

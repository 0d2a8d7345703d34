import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { ButtonLink } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Icon } from "../../components/Icon.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { Page } from "../../shell/Page.tsx";
import type { AdminNode } from "./nodes/api.ts";
import { DrainButton, JudgeButtons } from "./nodes/NodeActions.tsx";
import { NodeFacts } from "./nodes/NodeFacts.tsx";
import { NodeModels } from "./nodes/NodeModels.tsx";
import { NodeVerdicts } from "./nodes/NodeVerdicts.tsx";
import { queries, rowsOf, type Suspect } from "./queries.ts";

/** One node: what it is and does, what audits found, and what may be done about it. */
export function Node() {
  const { id } = useParams({ from: "/admin/nodes/$id" });
  const nodes = useQuery(queries.nodes);
  const suspects = useInfiniteQuery(queries.suspects);
  const node = nodes.data?.find((one) => one.id === id);
  const suspect = suspects.data && rowsOf(suspects.data).find((one) => one.node_id === id);
  const failed = [nodes, suspects].find((query) => query.error);
  const isKnown = nodes.data !== undefined && suspects.data !== undefined;
  return (
    <Page
      title={node?.name ?? suspect?.name ?? "Node"}
      lead={<code>{id}</code>}
      actions={
        <ButtonLink to="/admin/nodes" look="quiet" icon={<Icon name="back" size={18} />}>
          All nodes
        </ButtonLink>
      }
    >
      <Card title="Now" aside={isKnown ? <Actions id={id} node={node} suspect={suspect} /> : null}>
        {failed?.error ? (
          <Failure problem={failed.error} what="Not everything about this node can be read now" onRetry={() => void failed.refetch()} />
        ) : null}
        {isKnown ? (
          <NodeFacts node={node} suspect={suspect} />
        ) : failed ? null : (
          <div aria-busy="true">
            <Skeleton height="12rem" />
          </div>
        )}
      </Card>
      <NodeVerdicts id={id} />
      {node ? <NodeModels models={node.models} /> : null}
    </Page>
  );
}

function Actions({ id, node, suspect }: { id: string; node: AdminNode | undefined; suspect: Suspect | undefined }) {
  const judged = { id, name: node?.name ?? suspect?.name ?? id, state: suspect?.state ?? node?.state ?? null };
  const hasFindings = suspect !== undefined && (suspect.strikes > 0 || suspect.count_alarms > 0);
  return (
    <>
      {node ? <DrainButton node={node} /> : null}
      <JudgeButtons node={judged} hasFindings={hasFindings} />
    </>
  );
}

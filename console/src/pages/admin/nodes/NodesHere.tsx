import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { Button } from "../../../components/Button.tsx";
import { Card } from "../../../components/Card.tsx";
import { Empty } from "../../../components/Empty.tsx";
import { Loaded } from "../../../components/Loaded.tsx";
import { Skeleton } from "../../../components/Skeleton.tsx";
import { Table } from "../../../components/Table.tsx";
import style from "../admin.module.css";
import { queries } from "../queries.ts";
import { Search } from "../Search.tsx";
import { useFirst } from "../use-first.ts";
import type { AdminNode } from "./api.ts";
import { matching } from "./matching.ts";
import { DrainButton } from "./NodeActions.tsx";
import { NodeState } from "./NodeState.tsx";

const FEW = 20;

/** The nodes that the cluster knows now. */
export function NodesHere() {
  const nodes = useQuery(queries.nodes);
  const [text, setText] = useState("");
  return (
    <Card title="In the cluster">
      <div className={style.bar}>
        <Search label="Find a node" hint="A part of a name, an id, a provider, a model or a GPU." value={text} onSearch={setText} />
      </div>
      <Loaded query={nodes} what="The nodes cannot be read now" waits={<Skeleton height="16rem" />}>
        {(data) => <Found nodes={matching(data, text)} text={text} />}
      </Loaded>
    </Card>
  );
}

function Found({ nodes, text }: { nodes: readonly AdminNode[]; text: string }) {
  const { shown, left, more } = useFirst(nodes, FEW);
  if (nodes.length === 0) {
    return (
      <Empty icon="chip" title={text ? `No node fits “${text}”` : "No node is here"}>
        {text
          ? "Nodes that are not connected are found below, if something was found about them."
          : "A provider's agent connects by itself."}
      </Empty>
    );
  }
  return (
    <>
      <Table
        caption="Nodes in the cluster"
        rows={shown}
        keyOf={(node) => node.id}
        columns={[
          {
            name: "Node",
            cell: (node) => (
              <span className={style.two}>
                <Link to="/admin/nodes/$id" params={{ id: node.id }}>
                  {node.name}
                </Link>
                <small>{node.id}</small>
              </span>
            ),
          },
          { name: "Provider", cell: (node) => node.provider ?? "the platform" },
          { name: "Kind", cell: (node) => (node.kind === "trusted" ? "Trusted" : "Edge") },
          { name: "State", cell: (node) => <NodeState node={node} /> },
          { name: "Running", isFigure: true, cell: (node) => `${node.running} of ${node.slots}` },
          { name: "Models", isFigure: true, cell: (node) => node.models.length },
          {
            name: "Actions",
            cell: (node) => (
              <div className={style.actions}>
                <DrainButton node={node} />
              </div>
            ),
          },
        ]}
      />
      {left > 0 ? (
        <p className={style.actions}>
          <Button onClick={more}>Show more</Button>
        </p>
      ) : null}
    </>
  );
}

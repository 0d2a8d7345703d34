import { useQuery } from "@tanstack/react-query";
import { Button } from "../../../components/Button.tsx";
import { Card } from "../../../components/Card.tsx";
import { Empty } from "../../../components/Empty.tsx";
import { Loaded } from "../../../components/Loaded.tsx";
import { Status } from "../../../components/Status.tsx";
import { Table } from "../../../components/Table.tsx";
import style from "../admin.module.css";
import { bytes } from "../nodes/bytes.ts";
import { type CatalogModel, queries } from "../queries.ts";
import { useFirst } from "../use-first.ts";
import { ApproveButton } from "./ApproveButton.tsx";
import { Digest } from "./Digest.tsx";
import { type Found, foundBeside } from "./found.ts";

const FEW = 20;

/** What nodes have beside the catalog, ready to be approved by its digest. */
export function Beside({ catalog }: { catalog: readonly CatalogModel[] }) {
  const nodes = useQuery(queries.nodes);
  return (
    <Card title="On nodes, not in the catalog">
      <Loaded query={nodes} what="The nodes cannot be read now">
        {(data) => <Models found={foundBeside(catalog, data)} />}
      </Loaded>
    </Card>
  );
}

function Models({ found }: { found: readonly Found[] }) {
  const { shown, left, more } = useFirst(found, FEW);
  if (found.length === 0) {
    return (
      <Empty icon="book" title="Nothing">
        Every model that a node has now is in the catalog, with the same weights.
      </Empty>
    );
  }
  return (
    <>
      <Table
        caption="Models on nodes that are not in the catalog"
        rows={shown}
        keyOf={(one) => `${one.name} ${one.digest}`}
        columns={[
          { name: "Model", cell: (one) => <code>{one.name}</code> },
          { name: "Digest", cell: (one) => <Digest digest={one.digest} of={one.name} /> },
          { name: "Size", isFigure: true, cell: (one) => bytes(one.size_bytes) },
          { name: "Nodes", isFigure: true, cell: (one) => one.nodes },
          {
            name: "Why",
            cell: (one) => (one.isOther ? <Status tone="warn">Other weights</Status> : <Status tone="none">Not known</Status>),
          },
          {
            name: "Actions",
            cell: (one) => (
              <div className={style.actions}>
                <ApproveButton
                  label={one.isOther ? "Approve instead" : "Approve"}
                  model={{
                    name: one.name,
                    digest: one.digest,
                    size_bytes: String(one.size_bytes),
                    context_tokens: String(one.context_tokens),
                  }}
                />
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

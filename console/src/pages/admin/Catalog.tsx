import { useQuery } from "@tanstack/react-query";
import { Button } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Table } from "../../components/Table.tsx";
import { Time } from "../../components/Time.tsx";
import { Page } from "../../shell/Page.tsx";
import style from "./admin.module.css";
import { ApproveButton } from "./catalog/ApproveButton.tsx";
import { Beside } from "./catalog/Beside.tsx";
import { Digest } from "./catalog/Digest.tsx";
import { ForbidButton } from "./catalog/ForbidButton.tsx";
import { bytes } from "./nodes/bytes.ts";
import { type CatalogModel, queries } from "./queries.ts";
import { useFirst } from "./use-first.ts";

/** Which models may be offered, by the digest of their weights. */
export function Catalog() {
  const catalog = useQuery(queries.catalog);
  return (
    <Page
      title="Catalog"
      lead={
        <>
          Where <code>GFE_CATALOG=approved</code> is set, a model is offered only when its name and its digest are here; elsewhere the
          catalog is a hint.
        </>
      }
      actions={<ApproveButton label="Approve a model" />}
    >
      <Card title="Approved">
        <Loaded query={catalog} what="The catalog cannot be read now">
          {(data) => <Approved models={data.results} />}
        </Loaded>
      </Card>
      {catalog.data ? <Beside catalog={catalog.data.results} /> : null}
    </Page>
  );
}

const FEW = 20;

function Approved({ models }: { models: readonly CatalogModel[] }) {
  const { shown, left, more } = useFirst(models, FEW);
  if (models.length === 0) {
    return (
      <Empty icon="book" title="The catalog is empty">
        Approve what nodes have below, or a model that is to come.
      </Empty>
    );
  }
  return (
    <>
      <Table
        caption="Approved models"
        rows={shown}
        keyOf={(model) => model.name}
        columns={[
          { name: "Model", cell: (model) => <code>{model.name}</code> },
          { name: "Digest", cell: (model) => <Digest digest={model.digest} of={model.name} /> },
          {
            name: "From",
            cell: (model) => (
              <span className={style.two}>
                {model.source}
                <small>{model.license}</small>
              </span>
            ),
          },
          { name: "Size", isFigure: true, cell: (model) => bytes(model.size_bytes) },
          { name: "Context", isFigure: true, cell: (model) => model.context_tokens },
          { name: "Since", cell: (model) => <Time at={model.added_at} /> },
          {
            name: "Actions",
            cell: (model) => (
              <div className={style.actions}>
                <ForbidButton model={model} />
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

import { Card } from "../../../components/Card.tsx";
import { Empty } from "../../../components/Empty.tsx";
import { Status } from "../../../components/Status.tsx";
import { Table } from "../../../components/Table.tsx";
import style from "../admin.module.css";
import { Digest } from "../catalog/Digest.tsx";
import type { OfferedModel } from "./api.ts";
import { bytes } from "./bytes.ts";

/** The models that a node has. */
export function NodeModels({ models }: { models: readonly OfferedModel[] }) {
  return (
    <Card title="Models">
      {models.length === 0 ? (
        <Empty icon="spark" title="It has no model" />
      ) : (
        <Table
          caption="Models of this node"
          rows={models}
          keyOf={(model) => model.name}
          columns={[
            { name: "Model", cell: (model) => <code>{model.name}</code> },
            { name: "Digest", cell: (model) => <Digest digest={model.digest} of={model.name} /> },
            { name: "Size", isFigure: true, cell: (model) => bytes(model.size_bytes) },
            { name: "Context", isFigure: true, cell: (model) => model.context_tokens },
            { name: "State", cell: (model) => <ModelState model={model} /> },
          ]}
        />
      )}
    </Card>
  );
}

function ModelState({ model }: { model: OfferedModel }) {
  return (
    <span className={style.two}>
      {model.fits ? (
        <Status tone={model.loaded ? "ok" : "none"}>{model.loaded ? "Loaded" : "On disk"}</Status>
      ) : (
        <Status tone="warn">Too large</Status>
      )}
      {model.trouble ? <small>{model.trouble}</small> : null}
    </span>
  );
}

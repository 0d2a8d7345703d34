import { useQuery } from "@tanstack/react-query";
import { Button } from "../../../components/Button.tsx";
import { Card } from "../../../components/Card.tsx";
import { Empty } from "../../../components/Empty.tsx";
import { Loaded } from "../../../components/Loaded.tsx";
import { Table } from "../../../components/Table.tsx";
import { useLive } from "../../../live/use-live.ts";
import { queries } from "../../../queries.ts";
import style from "../admin.module.css";
import { useFirst } from "../use-first.ts";
import { useQueue } from "./use-queue.ts";

const FEW = 10;

/** Who waits for which model. */
export function Queue() {
  const models = useQuery(queries.models);
  return (
    <Card title="Queue per model">
      <Loaded query={models} what="The models cannot be read now">
        {(data) =>
          data.models.length === 0 ? (
            <Empty icon="clock" title="No model is offered">
              As soon as a node offers one, it stands here.
            </Empty>
          ) : (
            <Lines models={data.models} />
          )
        }
      </Loaded>
    </Card>
  );
}

function Lines({ models }: { models: readonly { name: string; nodes: number }[] }) {
  const { shown, left, more } = useFirst(models, FEW);
  const waiting = useLive((state) => state.figures?.waiting_jobs);
  const queue = useQueue(
    shown.map((model) => model.name),
    waiting,
  );
  return (
    <>
      <Table
        caption="Queue per model"
        rows={shown}
        keyOf={(model) => model.name}
        columns={[
          { name: "Model", cell: (model) => <code>{model.name}</code> },
          { name: "Nodes", isFigure: true, cell: (model) => model.nodes },
          { name: "Waiting", isFigure: true, cell: (model) => queue[model.name]?.ahead ?? "–" },
          { name: "Likely wait", isFigure: true, cell: (model) => queue[model.name]?.wait ?? "–" },
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

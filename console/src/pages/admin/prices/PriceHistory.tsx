import type { UseInfiniteQueryResult } from "@tanstack/react-query";
import { Button } from "../../../components/Button.tsx";
import { Card } from "../../../components/Card.tsx";
import { Credits } from "../../../components/Credits.tsx";
import { Empty } from "../../../components/Empty.tsx";
import { Failure } from "../../../components/Failure.tsx";
import { Table } from "../../../components/Table.tsx";
import { Time } from "../../../components/Time.tsx";
import style from "../admin.module.css";
import { Actor } from "../audit-log/Actor.tsx";
import { DEFAULT, type PriceSet } from "./history.ts";
import { EVERY_OTHER } from "./price.ts";

interface Props {
  log: Pick<UseInfiniteQueryResult, "hasNextPage" | "isFetchingNextPage" | "fetchNextPage" | "isPending" | "error" | "refetch">;
  set: readonly PriceSet[];
  /** How many lines of the audit log these were found in. */
  read: number;
}

/** Which prices were set, and when, as the audit log tells it. */
export function PriceHistory({ log, set, read }: Props) {
  return (
    <Card title="History">
      {log.error ? <Failure problem={log.error} what="The audit log cannot be read now" onRetry={() => void log.refetch()} /> : null}
      {set.length > 0 ? (
        <Table
          caption="Prices that were set"
          rows={set}
          keyOf={(one) => String(one.seq)}
          columns={[
            { name: "Model", cell: (one) => (one.model === DEFAULT ? EVERY_OTHER : <code>{one.model}</code>) },
            { name: "Per job", isFigure: true, cell: (one) => (one.job === undefined ? "not told" : <Credits amount={one.job} bare />) },
            { name: "From", cell: (one) => <Time at={one.at} /> },
            { name: "By", cell: (one) => <Actor actor={one.by} /> },
          ]}
        />
      ) : log.isPending || log.error ? null : (
        <Empty icon="tag" title="No change among the newest lines">
          The price that the platform began with is in no line.
        </Empty>
      )}
      <div className={style.foot}>
        <span>Found in the newest {read} lines of the audit log.</span>
        {log.hasNextPage ? (
          <Button busy={log.isFetchingNextPage} onClick={() => void log.fetchNextPage()}>
            Look further back
          </Button>
        ) : null}
      </div>
    </Card>
  );
}

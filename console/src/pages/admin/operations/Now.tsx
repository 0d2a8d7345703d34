import { useQuery } from "@tanstack/react-query";
import { Card } from "../../../components/Card.tsx";
import { Failure } from "../../../components/Failure.tsx";
import { Figure } from "../../../components/Figure.tsx";
import { useLive } from "../../../live/use-live.ts";
import { queries } from "../../../queries.ts";
import style from "../admin.module.css";
import { standingOf } from "../nodes/standing.ts";
import { queries as admin } from "../queries.ts";
import { shareWithoutAnswer } from "./pace.ts";
import { usePace } from "./use-pace.ts";

const RATE = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const SHARE = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });

/** How the platform does, in four figures. */
export function Now() {
  const stats = useQuery(queries.stats);
  const nodes = useQuery(admin.nodes);
  const waiting = useLive((state) => state.figures?.waiting_jobs);
  const pace = usePace();
  const taking = nodes.data?.filter((node) => standingOf(node) === "takes jobs").length;
  const running = nodes.data?.reduce((sum, node) => sum + node.running, 0);
  const share =
    stats.data && running !== undefined && waiting !== undefined
      ? shareWithoutAnswer({ jobs: stats.data.total_jobs, completed: stats.data.completed_jobs, open: running + waiting })
      : undefined;
  const hasNone = stats.data?.total_jobs === 0;
  return (
    <Card title="Now">
      <dl className={style.figures}>
        <Figure label="Nodes that take jobs" value={taking} hint={nodes.data ? `of ${nodes.data.length} known to the cluster` : null} />
        <Figure label="Jobs waiting" value={waiting} hint={running === undefined ? null : `${running} running`} />
        <Figure
          label="Jobs per minute"
          value={pace === undefined ? undefined : RATE.format(pace)}
          hint={pace === undefined ? "counting" : "since this page was opened, 5 minutes at most"}
        />
        <Figure
          label="Ended without an answer"
          value={share === undefined ? (hasNone ? "none" : undefined) : SHARE.format(share)}
          hint="failed or canceled, of all jobs so far"
        />
      </dl>
      {nodes.error ? <Failure problem={nodes.error} what="The nodes cannot be read now" onRetry={() => void nodes.refetch()} /> : null}
    </Card>
  );
}

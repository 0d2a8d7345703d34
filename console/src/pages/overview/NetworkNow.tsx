import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Card } from "../../components/Card.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Figure } from "../../components/Figure.tsx";
import { useLive, usePolling } from "../../live/use-live.ts";
import { queries } from "../../queries.ts";
import style from "./NetworkNow.module.css";

const POLL_MS = 10_000;

/** The market in four figures. */
export function NetworkNow() {
  const stats = useQuery({ ...queries.stats, refetchInterval: usePolling(POLL_MS) });
  const waiting = useLive((state) => state.figures?.waiting_jobs);
  return (
    <Card title="Network" aside={<Link to="/dashboard/network">Details</Link>}>
      {stats.error && !stats.data ? (
        <Failure problem={stats.error} what="The figures cannot be read now" onRetry={() => void stats.refetch()} />
      ) : (
        <dl className={style.figures} aria-busy={!stats.data}>
          <Figure label="Active nodes" value={stats.data?.active_nodes} />
          <Figure label="Models" value={stats.data?.available_models} />
          <Figure label="Jobs done" value={stats.data?.completed_jobs.toLocaleString("en")} />
          <Figure label="Waiting" value={stats.data && (waiting ?? "–")} />
        </dl>
      )}
    </Card>
  );
}

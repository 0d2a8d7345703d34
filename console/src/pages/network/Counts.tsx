import { useQuery } from "@tanstack/react-query";
import { Card } from "../../components/Card.tsx";
import { Figure } from "../../components/Figure.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { useLive, usePolling } from "../../live/use-live.ts";
import { queries } from "../../queries.ts";
import style from "./Counts.module.css";

/** The market in figures; the socket keeps them true, and where it is not open they are asked for. */
export function Counts({ everyMs }: { everyMs: number }) {
  const stats = useQuery({ ...queries.stats, refetchInterval: usePolling(everyMs) });
  const waiting = useLive((state) => state.figures?.waiting_jobs);
  return (
    <Card glass>
      <Loaded query={stats} what="The figures cannot be read now" waits={<Skeleton height="4.2rem" />}>
        {(data) => (
          <dl className={style.figures}>
            <Figure label="Nodes online" value={data.active_nodes.toLocaleString("en")} />
            <Figure label="Models on offer" value={data.available_models.toLocaleString("en")} />
            <Figure label="Jobs done" value={data.completed_jobs.toLocaleString("en")} />
            {waiting === undefined ? null : <Figure label="Jobs waiting" value={waiting.toLocaleString("en")} />}
          </dl>
        )}
      </Loaded>
    </Card>
  );
}

import { useQuery } from "@tanstack/react-query";
import { BigAmount } from "../../components/BigAmount.tsx";
import { Card } from "../../components/Card.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Figure } from "../../components/Figure.tsx";
import { UNIT } from "../../money.ts";
import { percent } from "../../words.ts";
import { provider } from "./queries.ts";
import style from "./Totals.module.css";

/** Five figures. Money is the ledger's to tell, jobs the job API's. */
export function Totals({ days }: { days: number }) {
  const earnings = useQuery(provider.earnings(days));
  const stats = useQuery(provider.stats(days));
  const money = earnings.data;
  const done = stats.data;
  return (
    <Card glass>
      <dl className={style.figures} aria-busy={!(money || earnings.error) || !(done || stats.error)}>
        <Figure label="Earned in all" value={money ? <BigAmount amount={money.total} /> : gap(earnings.error)} hint={UNIT} />
        <Figure label={`Earned in ${days} days`} value={money ? <BigAmount amount={money.period} /> : gap(earnings.error)} hint={UNIT} />
        <Figure label="Jobs served" value={done ? done.jobs.toLocaleString("en") : gap(stats.error)} hint={`in ${days} days`} />
        <Figure label="Success rate" value={done ? percent(done.success_rate) : gap(stats.error)} hint={done ? ends(done) : null} />
        <Figure label="Machines online" value={done ? done.nodes.online : gap(stats.error)} hint={done ? `of ${done.nodes.total}` : null} />
      </dl>
      {earnings.error ? (
        <Failure problem={earnings.error} what="The earnings cannot be read now" onRetry={() => void earnings.refetch()} />
      ) : null}
      {stats.error ? (
        <Failure problem={stats.error} what="The figures of jobs cannot be read now" onRetry={() => void stats.refetch()} />
      ) : null}
    </Card>
  );
}

const gap = (error: unknown) => (error ? "–" : undefined);

function ends({ completed, failed }: { completed: number; failed: number }): string {
  if (completed + failed === 0) return "no job has ended yet";
  return failed === 0 ? "none failed" : `${failed.toLocaleString("en")} failed`;
}

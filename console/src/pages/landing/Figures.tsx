import { Card } from "../../components/Card.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Figure } from "../../components/Figure.tsx";
import * as market from "../../market/market.ts";
import { usePolled } from "../../market/polled.ts";
import { figure, isZero, UNIT } from "../../money.ts";
import style from "./Figures.module.css";

/** Four live figures. */
export function Figures() {
  const stats = usePolled(market.stats);
  const prices = usePolled(market.prices);
  const price = prices.data?.default;
  const tokens = price && !(isZero(price.prompt_per_million) && isZero(price.completion_per_million));
  return (
    <section className={style.place} aria-label="The market now">
      <Card glass>
        {stats.problem && !stats.data ? (
          <Failure problem={stats.problem} what="The figures cannot be read now" onRetry={market.stats.again} />
        ) : (
          <dl className={style.figures} aria-busy={!stats.data}>
            <Figure label="Active nodes" value={stats.data?.active_nodes} />
            <Figure label="Models on offer" value={stats.data?.available_models} />
            <Figure label="Jobs done" value={stats.data?.completed_jobs.toLocaleString("en")} />
            <Figure
              label={tokens ? "Price of a job, and its tokens" : "Price of a job"}
              value={price ? <Price amount={price.job} /> : undefined}
            />
          </dl>
        )}
      </Card>
    </section>
  );
}

function Price({ amount }: { amount: string }) {
  return (
    <>
      {figure(amount)} <small className={style.unit}>{UNIT}</small>
    </>
  );
}

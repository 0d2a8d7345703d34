import { useQuery } from "@tanstack/react-query";
import { BigAmount } from "../../components/BigAmount.tsx";
import { Card } from "../../components/Card.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Figure } from "../../components/Figure.tsx";
import { UNIT } from "../../money.ts";
import { queries } from "../../queries.ts";
import style from "./Funds.module.css";

/** The three figures of a wallet. */
export function Funds() {
  const wallet = useQuery(queries.wallet);
  const { data } = wallet;
  if (wallet.error && !data) {
    return <Failure problem={wallet.error} what="The wallet cannot be read now" onRetry={() => void wallet.refetch()} />;
  }
  const jobs = data?.holds.length ?? 0;
  return (
    <section aria-label="Balance">
      <Card glass>
        <dl className={style.figures} aria-busy={!data}>
          <Figure
            className={style.first}
            label="Available"
            value={data && <BigAmount amount={data.balance} />}
            hint={`${UNIT}, to spend now`}
          />
          <Figure
            label="Held"
            value={data && <BigAmount amount={data.held} />}
            hint={jobs === 0 ? `${UNIT}, for open jobs` : `${UNIT}, for ${jobs === 1 ? "one open job" : `${jobs} open jobs`}`}
          />
          <Figure label="Withdrawable" value={data && <BigAmount amount={data.withdrawable} />} hint={`${UNIT}, earned and released`} />
        </dl>
      </Card>
    </section>
  );
}

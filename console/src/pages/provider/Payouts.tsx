import { useQuery } from "@tanstack/react-query";
import { BigAmount } from "../../components/BigAmount.tsx";
import { ButtonLink } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Figure } from "../../components/Figure.tsx";
import { Icon } from "../../components/Icon.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { Time } from "../../components/Time.tsx";
import { UNIT } from "../../money.ts";
import { Escrows } from "./Escrows.tsx";
import style from "./Payouts.module.css";
import { type Escrow, provider } from "./queries.ts";

/** What can be withdrawn, what waits, and until when. */
export function Payouts({ days }: { days: number }) {
  const earnings = useQuery(provider.earnings(days));
  return (
    <Card
      title="Pay-outs"
      aside={
        <ButtonLink to="/dashboard/wallet" icon={<Icon name="wallet" size={18} />}>
          Withdraw in the wallet
        </ButtonLink>
      }
    >
      <Loaded query={earnings} what="The pay-outs cannot be read now" waits={<Skeleton height="9rem" />}>
        {(data) => (
          <div className={style.place}>
            <dl className={style.figures}>
              <Figure label="Can be withdrawn" value={<BigAmount amount={data.released} />} hint={UNIT} />
              <Figure label="Waits" value={<BigAmount amount={data.pending} />} hint={until(data.escrows)} />
            </dl>
            {data.escrows.length > 0 ? <Escrows rows={data.escrows} /> : null}
            <p className={style.note}>
              What deposited credits paid waits with each machine for as long as its tier says, then it can be withdrawn. What welcome
              credits paid is yours to spend here.
            </p>
          </div>
        )}
      </Loaded>
    </Card>
  );
}

/** When the next of it is released. */
function until(escrows: readonly Escrow[]) {
  const next = escrows
    .map((escrow) => escrow.first_at)
    .filter((at) => at !== null)
    .sort()[0];
  if (next !== undefined)
    return (
      <>
        {UNIT}, the next on <Time at={next} />
      </>
    );
  return escrows.length > 0 ? `${UNIT}, held back while a machine is in quarantine or banned` : UNIT;
}

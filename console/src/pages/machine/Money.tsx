import { useQuery } from "@tanstack/react-query";
import { BigAmount } from "../../components/BigAmount.tsx";
import { Card } from "../../components/Card.tsx";
import { Figure } from "../../components/Figure.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { Time } from "../../components/Time.tsx";
import { UNIT } from "../../money.ts";
import { USUAL_DAYS } from "../provider/periods.ts";
import { type Escrow, provider } from "../provider/queries.ts";
import style from "./Money.module.css";

/** What the machine earned of late, and what of it waits. */
export function Money({ id }: { id: string }) {
  const earnings = useQuery(provider.earnings(USUAL_DAYS));
  return (
    <Card title="Earnings and escrow">
      <Loaded query={earnings} what="The earnings cannot be read now" waits={<Skeleton height="5rem" />}>
        {(data) => {
          const own = data.by_node.find((node) => node.node_id === id);
          const escrow = data.escrows.find((one) => one.node_id === id);
          return (
            <dl className={style.figures}>
              <Figure label={`Earned in ${USUAL_DAYS} days`} value={<BigAmount amount={own?.earned ?? "0.00"} />} hint={UNIT} />
              <Figure label="Paid jobs" value={(own?.jobs ?? 0).toLocaleString("en")} />
              <Figure
                label="In escrow"
                value={<BigAmount amount={escrow?.amount ?? "0.00"} />}
                hint={escrow ? <Until escrow={escrow} /> : `${UNIT}: nothing waits`}
              />
            </dl>
          );
        }}
      </Loaded>
    </Card>
  );
}

function Until({ escrow }: { escrow: Escrow }) {
  if (escrow.first_at === null || escrow.last_at === null) return <>{UNIT}; nothing leaves while it is in quarantine or banned</>;
  return (
    <>
      {UNIT}, released from <Time at={escrow.first_at} /> to <Time at={escrow.last_at} />
    </>
  );
}

import { useQuery } from "@tanstack/react-query";
import { Card } from "../../components/Card.tsx";
import { Credits } from "../../components/Credits.tsx";
import { Escrows } from "../provider/Escrows.tsx";
import { USUAL_DAYS } from "../provider/periods.ts";
import { provider } from "../provider/queries.ts";
import style from "./Wallet.module.css";

/** Earnings in escrow, for who has any: how much waits with which machine, why, and until when. */
export function Waiting() {
  const { data } = useQuery(provider.earnings(USUAL_DAYS));
  if (!data || data.escrows.length === 0) return null;
  const isHeldBack = data.escrows.some((escrow) => escrow.first_at === null);
  return (
    <Card title="Earnings that wait" aside={<Credits amount={data.pending} />}>
      <Escrows rows={data.escrows} />
      <p className={style.note}>
        What a machine earns waits in escrow for as long as its tier says, so that a payment for a wrong answer can be taken back. It then
        becomes withdrawable by itself.
        {isHeldBack ? " What is held back belongs to a machine that is in quarantine or banned: its page says why." : ""}
      </p>
    </Card>
  );
}

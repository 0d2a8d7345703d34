import { Credits } from "../../components/Credits.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import * as market from "../../market/market.ts";
import { usePolled } from "../../market/polled.ts";
import { isZero } from "../../money.ts";

/** What a new account begins with. */
export function Welcome() {
  const { data: config } = usePolled(market.config);
  if (config && isZero(config.welcome_credits)) return <p>One account for using models and for sharing machines.</p>;
  return <p>It begins with {config ? <Credits amount={config.welcome_credits} /> : <Skeleton width="8ch" />}, for using models.</p>;
}

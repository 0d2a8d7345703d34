import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useSearch } from "@tanstack/react-router";
import { ButtonLink } from "../../components/Button.tsx";
import { Icon } from "../../components/Icon.tsx";
import { isZero } from "../../money.ts";
import { Page } from "../../shell/Page.tsx";
import { AgentTokens } from "./AgentTokens.tsx";
import { EarningsCard } from "./EarningsCard.tsx";
import { Machines } from "./Machines.tsx";
import { Payouts } from "./Payouts.tsx";
import { USUAL_DAYS } from "./periods.ts";
import { provider } from "./queries.ts";
import { Totals } from "./Totals.tsx";

/** F8: one's machines, how they do, and what they earn. */
export function Provider() {
  const { days = USUAL_DAYS } = useSearch({ from: "/dashboard/provider" });
  const nodes = useInfiniteQuery(provider.nodes);
  const { data: earnings } = useQuery(provider.earnings(days));
  const isNew = nodes.data?.pages[0]?.results.length === 0 && earnings?.jobs === 0 && isZero(earnings.total);
  return (
    <Page
      title="Provider"
      lead="Your machines, and what they earn."
      actions={
        isNew ? null : (
          <ButtonLink to="/dashboard/provider/add" look="gold" icon={<Icon name="plus" size={18} />}>
            Add a machine
          </ButtonLink>
        )
      }
    >
      {isNew ? null : <Totals days={days} />}
      <Machines nodes={nodes} />
      {isNew ? null : <EarningsCard days={days} />}
      {isNew ? null : <Payouts days={days} />}
      <AgentTokens />
    </Page>
  );
}

import { useQuery } from "@tanstack/react-query";
import { ButtonLink } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Figure } from "../../components/Figure.tsx";
import { Icon } from "../../components/Icon.tsx";
import { useDesk } from "../../jobs/use-desk.ts";
import { usePolling } from "../../live/use-live.ts";
import { credits, figure, isZero, UNIT } from "../../money.ts";
import { queries } from "../../queries.ts";
import { useModels } from "./use-models.ts";
import style from "./WalletStrip.module.css";

const POLL_MS = 10_000;

/** What can be spent, what is reserved for open jobs, what a job costs. */
export function WalletStrip() {
  const wallet = useQuery({ ...queries.wallet, refetchInterval: usePolling(POLL_MS) });
  const { draft } = useDesk();
  const { priceOf, chosen } = useModels(draft.model);
  const price = priceOf(chosen);
  const tokens = price && !(isZero(price.prompt_per_million) && isZero(price.completion_per_million));
  return (
    <section aria-label="Wallet">
      <Card glass>
        <div className={style.wallet}>
          {wallet.error && !wallet.data ? (
            <Failure problem={wallet.error} what="The wallet cannot be read now" onRetry={() => void wallet.refetch()} />
          ) : (
            <dl className={style.figures} aria-busy={!wallet.data}>
              <Figure label="Available" value={wallet.data && <Amount amount={wallet.data.balance} />} hint="to spend now" />
              <Figure label="Held" value={wallet.data && <Amount amount={wallet.data.held} />} hint="for open jobs" />
              <Figure
                label="Cost per job"
                value={price && <Amount amount={price.job} />}
                hint={tokens ? `and ${credits(price.completion_per_million)} per million tokens out` : chosen || "usual price"}
              />
            </dl>
          )}
          <ButtonLink to="/dashboard/wallet" icon={<Icon name="plus" />}>
            Add funds
          </ButtonLink>
        </div>
      </Card>
    </section>
  );
}

function Amount({ amount }: { amount: string }) {
  return (
    <>
      {figure(amount)} <small className={style.unit}>{UNIT}</small>
    </>
  );
}

import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type ReactNode, useEffect } from "react";
import { asProblem } from "../../client/problem.ts";
import { Button, ButtonAnchor } from "../../components/Button.tsx";
import { Credits } from "../../components/Credits.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Notice } from "../../components/Notice.tsx";
import { keys } from "../../queries.ts";
import type { Ending } from "./kinds.ts";
import { type Transaction, wallet } from "./queries.ts";

/** What became of a deposit that somebody comes back from: the ledger says it, the address only from where. */
export function Returned({ id, outcome }: { id: string; outcome: Ending | undefined }) {
  const deposit = useQuery(wallet.transaction(id));
  const queries = useQueryClient();
  const navigate = useNavigate({ from: "/dashboard/wallet" });
  const status = deposit.data?.status;
  useEffect(() => {
    if (status === "SUCCESS" || status === "FAILED") void queries.invalidateQueries({ queryKey: keys.wallet });
  }, [queries, status]);
  const leave = () => void navigate({ replace: true, search: ({ deposit: _, outcome: __, ...rest }) => rest });
  const close = (
    <Button look="quiet" onClick={leave}>
      Close
    </Button>
  );
  if (deposit.error) {
    const isUnknown = asProblem(deposit.error).status === 404;
    if (isUnknown) return <Notice kind="warn" title="This deposit is not one of yours" action={close} />;
    return <Failure problem={deposit.error} what="What became of your payment cannot be told now" onRetry={() => void deposit.refetch()} />;
  }
  if (!deposit.data) return <Notice title="Asking what became of your payment…" />;
  return <News deposit={deposit.data} outcome={outcome} close={close} />;
}

function News({ deposit, outcome, close }: { deposit: Transaction; outcome: Ending | undefined; close: ReactNode }) {
  const amount = <Credits amount={deposit.amount} />;
  if (deposit.status === "SUCCESS") {
    return (
      <Notice kind="ok" title="Your payment has arrived" action={close}>
        {amount} were added to your wallet.
      </Notice>
    );
  }
  if (deposit.status === "FAILED") {
    return (
      <Notice kind="bad" title="The payment failed" action={close}>
        {deposit.reason ? `${deposit.reason} ` : ""}No credits were added. You can try again below.
      </Notice>
    );
  }
  const pay = deposit.checkout_url ? <ButtonAnchor href={deposit.checkout_url}>Go on paying</ButtonAnchor> : null;
  if (outcome === "paid") {
    return (
      <Notice title="Waiting for the payment service">
        {amount} come as soon as it confirms your payment. You need not stay on this page.
      </Notice>
    );
  }
  return (
    <Notice
      kind="warn"
      title="You have not paid yet"
      action={
        <>
          {pay}
          {close}
        </>
      }
    >
      The deposit of {amount} stays open for a while.
    </Notice>
  );
}

import { useSearch } from "@tanstack/react-router";
import { Page } from "../../shell/Page.tsx";
import { AddFunds } from "./AddFunds.tsx";
import { Funds } from "./Funds.tsx";
import { Holds } from "./Holds.tsx";
import { Log } from "./Log.tsx";
import { Returned } from "./Returned.tsx";
import { Transactions } from "./Transactions.tsx";
import { useNews } from "./use-news.ts";
import { Waiting } from "./Waiting.tsx";
import style from "./Wallet.module.css";
import { Withdraw } from "./Withdraw.tsx";

/** F7: what one has, how it comes in and goes out, and how it came to be. */
export function Wallet() {
  const { kind, deposit, outcome } = useSearch({ from: "/dashboard/wallet" });
  useNews();
  return (
    <Page title="Wallet" lead="What you have, what came in, and where it went.">
      {deposit ? <Returned key={deposit} id={deposit} outcome={outcome} /> : null}
      <Funds />
      <div className={style.pair}>
        <AddFunds />
        <Withdraw />
      </div>
      <Waiting />
      <Holds />
      <Transactions />
      <Log kind={kind} />
    </Page>
  );
}

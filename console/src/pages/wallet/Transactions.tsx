import { useInfiniteQuery } from "@tanstack/react-query";
import { Card } from "../../components/Card.tsx";
import { Credits } from "../../components/Credits.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { More } from "../../components/More.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { Status, type Tone } from "../../components/Status.tsx";
import { Table } from "../../components/Table.tsx";
import { Time } from "../../components/Time.tsx";
import { gatewayName } from "./gateways.ts";
import { type Transaction, wallet } from "./queries.ts";
import style from "./Transactions.module.css";

const POLL_MS = 15_000;

/** Deposits and withdrawals, each with how it stands. */
export function Transactions() {
  const transactions = useInfiniteQuery({
    ...wallet.transactions,
    refetchInterval: ({ state }) =>
      state.data?.pages.some((page) => page.results.some((row) => row.status === "PENDING")) ? POLL_MS : false,
  });
  const rows = transactions.data?.pages.flatMap((page) => page.results) ?? [];
  return (
    <Card title="Deposits and withdrawals">
      <Loaded query={transactions} what="Deposits and withdrawals cannot be read now" waits={<Skeleton height="9rem" />}>
        {() =>
          rows.length === 0 ? (
            <Empty icon="coins" title="No money has come in or gone out yet" />
          ) : (
            <Table
              caption="Deposits and withdrawals, the newest first"
              rows={rows}
              keyOf={(row) => row.id}
              columns={[
                { name: "What", cell: (row) => <What row={row} /> },
                { name: "When", cell: (row) => <Time at={row.created_at} /> },
                { name: "State", cell: (row) => <State row={row} /> },
                {
                  name: "Credits",
                  isFigure: true,
                  cell: (row) => <Credits amount={row.type === "DEPOSIT" ? row.amount : `-${row.amount}`} signed bare />,
                },
              ]}
            />
          )
        }
      </Loaded>
      <More query={transactions} />
    </Card>
  );
}

function What({ row }: { row: Transaction }) {
  if (row.type === "DEPOSIT") return <>Deposit with {gatewayName(row.gateway)}</>;
  return <>Withdrawal{row.destination ? ` to ${row.destination}` : ""}</>;
}

const SAID: Record<Transaction["type"], Record<Transaction["status"], readonly [Tone, string]>> = {
  DEPOSIT: { PENDING: ["warn", "Not paid yet"], SUCCESS: ["ok", "Arrived"], FAILED: ["none", "Failed"] },
  WITHDRAWAL: { PENDING: ["busy", "Waits for an operator"], SUCCESS: ["ok", "Paid out"], FAILED: ["bad", "Refused, and returned"] },
};

function State({ row }: { row: Transaction }) {
  const [tone, word] = SAID[row.type][row.status];
  return (
    <span className={style.state}>
      <Status tone={tone}>{word}</Status>
      {row.status === "PENDING" && row.type === "DEPOSIT" && row.checkout_url ? <a href={row.checkout_url}>Go on paying</a> : null}
      {row.status === "FAILED" && row.reason ? <small>{row.reason}</small> : null}
    </span>
  );
}

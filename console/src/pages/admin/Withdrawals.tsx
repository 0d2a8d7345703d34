import { useInfiniteQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Card } from "../../components/Card.tsx";
import { CopyButton } from "../../components/CopyButton.tsx";
import { Credits } from "../../components/Credits.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Segments } from "../../components/Segments.tsx";
import { Status, type Tone } from "../../components/Status.tsx";
import { Table } from "../../components/Table.tsx";
import { Time } from "../../components/Time.tsx";
import { Page } from "../../shell/Page.tsx";
import style from "./admin.module.css";
import { queries, type Withdrawal, type WithdrawalStatus } from "./queries.ts";
import { Rows } from "./Rows.tsx";
import { WithdrawalActions } from "./withdrawals/WithdrawalActions.tsx";

const CHOICES = [
  { value: "PENDING", name: "To pay" },
  { value: "SUCCESS", name: "Paid" },
  { value: "FAILED", name: "Refused" },
  { value: "ALL", name: "All" },
] as const;
type Choice = (typeof CHOICES)[number]["value"];

const SHOWN: Record<string, readonly [Tone, string]> = {
  PENDING: ["busy", "To pay"],
  SUCCESS: ["ok", "Paid"],
  FAILED: ["none", "Refused"],
};

/** What providers want paid out. */
export function Withdrawals() {
  const { status } = useSearch({ from: "/admin/withdrawals" });
  const navigate = useNavigate({ from: "/admin/withdrawals" });
  const choice: Choice = status ?? "PENDING";
  const wanted: WithdrawalStatus | undefined = choice === "ALL" ? undefined : choice;
  const withdrawals = useInfiniteQuery(queries.withdrawals(wanted));
  return (
    <Page title="Withdrawals" lead="Pay first, then note it here. A large one is done when a second operator says so too.">
      <Card>
        <div className={style.bar}>
          <Segments
            label="State"
            options={CHOICES}
            value={choice}
            onChoose={(value) => void navigate({ search: value === "PENDING" ? {} : { status: value }, replace: true })}
          />
        </div>
        <Rows
          query={withdrawals}
          what="The withdrawals cannot be read now"
          empty={
            <Empty icon="coins" title={wanted === "PENDING" ? "Nothing is to be paid" : "There is none"}>
              {wanted === "PENDING" ? "When a provider asks for earnings, they stand here." : null}
            </Empty>
          }
        >
          {(rows) => (
            <Table
              caption="Withdrawals"
              rows={rows}
              keyOf={(row) => row.id}
              columns={[
                {
                  name: "User",
                  cell: (row) => (
                    <span className={style.two}>
                      {row.user}
                      <small>{row.id}</small>
                    </span>
                  ),
                },
                { name: "Amount", isFigure: true, cell: (row) => <Credits amount={row.amount} bare /> },
                { name: "To", cell: (row) => <Destination withdrawal={row} /> },
                { name: "Asked", cell: (row) => <Time at={row.created_at} /> },
                { name: "State", cell: (row) => <State withdrawal={row} /> },
                { name: "Actions", cell: (row) => <WithdrawalActions withdrawal={row} /> },
              ]}
            />
          )}
        </Rows>
      </Card>
    </Page>
  );
}

function Destination({ withdrawal }: { withdrawal: Withdrawal }) {
  if (withdrawal.destination === null) return <span className={style.said}>as agreed</span>;
  return (
    <span>
      {withdrawal.destination} <CopyButton text={withdrawal.destination} what={`where ${withdrawal.id} goes to`} />
    </span>
  );
}

function State({ withdrawal }: { withdrawal: Withdrawal }) {
  const [tone, word] = SHOWN[withdrawal.status] ?? ["none", withdrawal.status];
  const more = withdrawal.reason ?? (withdrawal.approvals > 0 ? said(withdrawal.approvals) : null);
  return (
    <span className={style.two}>
      <Status tone={tone}>{word}</Status>
      {more ? <small>{more}</small> : null}
    </span>
  );
}

function said(approvals: number): string {
  return approvals === 1 ? "1 operator agreed" : `${approvals} operators agreed`;
}

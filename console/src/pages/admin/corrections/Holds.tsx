import { useInfiniteQuery } from "@tanstack/react-query";
import { done } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import { Card } from "../../../components/Card.tsx";
import { Credits } from "../../../components/Credits.tsx";
import { Empty } from "../../../components/Empty.tsx";
import { Table } from "../../../components/Table.tsx";
import { Time } from "../../../components/Time.tsx";
import style from "../admin.module.css";
import { ChangeButton } from "../change/ChangeButton.tsx";
import { type Hold, keys, queries } from "../queries.ts";
import { Rows } from "../Rows.tsx";
import { UserName } from "../UserName.tsx";

/** What is reserved for jobs that have not ended, oldest first. */
export function Holds() {
  const holds = useInfiniteQuery(queries.holds);
  return (
    <Card title="Open holds">
      <Rows
        query={holds}
        what="The holds cannot be read now"
        empty={
          <Empty icon="clock" title="Nothing is held">
            Each job holds the most that it can cost until it ends. One that stays is given back by itself when it expires.
          </Empty>
        }
      >
        {(rows) => (
          <Table
            caption="Open holds"
            rows={rows}
            keyOf={(row) => row.job_id}
            columns={[
              { name: "Job", cell: (row) => <code>{row.job_id}</code> },
              { name: "User", cell: (row) => <UserName id={row.user} /> },
              { name: "Model", cell: (row) => <code>{row.model}</code> },
              { name: "Held", isFigure: true, cell: (row) => <Credits amount={row.amount} bare /> },
              { name: "Since", cell: (row) => <Time at={row.created_at} /> },
              { name: "Expires", cell: (row) => <Time at={row.expires_at} /> },
              { name: "Actions", cell: (row) => <VoidButton hold={row} /> },
            ]}
          />
        )}
      </Rows>
    </Card>
  );
}

function VoidButton({ hold }: { hold: Hold }) {
  return (
    <div className={style.actions}>
      <ChangeButton
        label="Give back"
        about={`the hold of ${hold.job_id}`}
        title="Give this hold back?"
        action="Give back"
        isGrave
        reason="Reason"
        stale={[keys.holds, keys.users]}
        change={async ({ reason, headers }) => {
          await done(
            ledger.POST("/api/admin/holds/{job_id}/void/", { params: { path: { job_id: hold.job_id } }, body: { reason }, headers }),
          );
          return { title: "Given back" };
        }}
      >
        <p>
          <strong>
            <Credits amount={hold.amount} />
          </strong>{" "}
          can be spent again, and whatever the job still brings is not charged. For jobs that will not end any more.
        </p>
      </ChangeButton>
    </div>
  );
}

import { useInfiniteQuery } from "@tanstack/react-query";
import { Card } from "../../../components/Card.tsx";
import { Credits } from "../../../components/Credits.tsx";
import { Empty } from "../../../components/Empty.tsx";
import { Status, type Tone } from "../../../components/Status.tsx";
import { Table } from "../../../components/Table.tsx";
import { Time } from "../../../components/Time.tsx";
import style from "../admin.module.css";
import { queries } from "../queries.ts";
import { Rows } from "../Rows.tsx";
import { UserName } from "../UserName.tsx";
import { CorrectionActions } from "./CorrectionActions.tsx";
import { pocketName } from "./pockets.ts";

const STATES: Record<string, readonly [Tone, string]> = {
  PENDING: ["busy", "Waits"],
  POSTED: ["ok", "Posted"],
  REFUSED: ["none", "Refused"],
};

/** What operators changed in the books, and what waits for a second one. */
export function CorrectionList() {
  const corrections = useInfiniteQuery(queries.corrections);
  return (
    <Card title="Corrections">
      <Rows
        query={corrections}
        what="The corrections cannot be read now"
        empty={
          <Empty icon="receipt" title="Nothing was corrected yet">
            Credits that an operator gives or takes stand here, with the reason.
          </Empty>
        }
      >
        {(rows) => (
          <Table
            caption="Corrections"
            rows={rows}
            keyOf={(row) => row.id}
            columns={[
              { name: "User", cell: (row) => <UserName id={row.user} /> },
              {
                name: "Amount",
                isFigure: true,
                cell: (row) => (
                  <span className={style.two}>
                    <Credits amount={row.amount} signed bare />
                    <small>{pocketName(row.pocket)}</small>
                  </span>
                ),
              },
              { name: "Reason", cell: (row) => row.reason },
              { name: "By", cell: (row) => <UserName id={row.proposed_by} /> },
              { name: "When", cell: (row) => <Time at={row.created_at} /> },
              {
                name: "State",
                cell: (row) => {
                  const [tone, word] = STATES[row.state] ?? ["none", row.state];
                  return <Status tone={tone}>{word}</Status>;
                },
              },
              { name: "Actions", cell: (row) => <CorrectionActions correction={row} /> },
            ]}
          />
        )}
      </Rows>
    </Card>
  );
}

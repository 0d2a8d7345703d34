import { Link } from "@tanstack/react-router";
import { Credits } from "../../components/Credits.tsx";
import { Table } from "../../components/Table.tsx";
import { Time } from "../../components/Time.tsx";
import type { Escrow } from "./queries.ts";

/** What machines earned that cannot be withdrawn yet, and until when. */
export function Escrows({ rows }: { rows: readonly Escrow[] }) {
  return (
    <Table
      caption="What waits, by machine"
      rows={rows}
      keyOf={(row) => row.node_id}
      columns={[
        {
          name: "Machine",
          cell: (row) =>
            row.node_id ? (
              <Link to="/dashboard/provider/$id" params={{ id: row.node_id }}>
                {row.name || row.node_id}
              </Link>
            ) : (
              "From before each machine had its own"
            ),
        },
        { name: "Waits", isFigure: true, cell: (row) => <Credits amount={row.amount} /> },
        { name: "First released", isFigure: true, cell: (row) => (row.first_at ? <Time at={row.first_at} /> : "held back") },
        { name: "All released", isFigure: true, cell: (row) => (row.last_at ? <Time at={row.last_at} /> : "held back") },
      ]}
    />
  );
}

import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Card } from "../../../components/Card.tsx";
import { Empty } from "../../../components/Empty.tsx";
import { Table } from "../../../components/Table.tsx";
import { Time } from "../../../components/Time.tsx";
import style from "../admin.module.css";
import { queries } from "../queries.ts";
import { Rows } from "../Rows.tsx";
import { JudgeButtons } from "./NodeActions.tsx";
import { LedgerState } from "./NodeState.tsx";
import { tierName } from "./tiers.ts";

/** Nodes in quarantine, banned, with a flag, or with an open appeal; connected or not. */
export function Suspects() {
  const suspects = useInfiniteQuery(queries.suspects);
  return (
    <Card title="To look at">
      <Rows
        query={suspects}
        what="These nodes cannot be read now"
        empty={
          <Empty icon="shield" title="Nothing speaks against any node">
            Nodes in quarantine, banned ones, and those with a flag or an open appeal stand here.
          </Empty>
        }
      >
        {(rows) => (
          <Table
            caption="Nodes to look at"
            rows={rows}
            keyOf={(row) => row.node_id}
            columns={[
              {
                name: "Node",
                cell: (row) => (
                  <span className={style.two}>
                    <Link to="/admin/nodes/$id" params={{ id: row.node_id }}>
                      {row.name}
                    </Link>
                    <small>
                      {row.owner}
                      {row.has_open_appeal ? ", appeals" : ""}
                    </small>
                  </span>
                ),
              },
              { name: "State", cell: (row) => <LedgerState state={row.state} reason={row.state_reason} /> },
              { name: "Tier", cell: (row) => tierName(row.tier) },
              { name: "Strikes", isFigure: true, cell: (row) => row.strikes },
              { name: "Count alarms", isFigure: true, cell: (row) => row.count_alarms },
              { name: "Changed", cell: (row) => <Time at={row.changed_at} /> },
              {
                name: "Actions",
                cell: (row) => (
                  <JudgeButtons
                    node={{ id: row.node_id, name: row.name, state: row.state }}
                    hasFindings={row.strikes > 0 || row.count_alarms > 0}
                  />
                ),
              },
            ]}
          />
        )}
      </Rows>
    </Card>
  );
}

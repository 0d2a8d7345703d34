import { useQuery } from "@tanstack/react-query";
import { ButtonLink } from "../../../components/Button.tsx";
import { Card } from "../../../components/Card.tsx";
import { Empty } from "../../../components/Empty.tsx";
import { Loaded } from "../../../components/Loaded.tsx";
import { Status } from "../../../components/Status.tsx";
import { Table } from "../../../components/Table.tsx";
import { countByStanding, shownAs } from "../nodes/standing.ts";
import { queries } from "../queries.ts";

/** How many nodes of each kind are in each state. */
export function NodeCounts() {
  const nodes = useQuery(queries.nodes);
  return (
    <Card title="Nodes" aside={<ButtonLink to="/admin/nodes">All nodes</ButtonLink>}>
      <Loaded query={nodes} what="The nodes cannot be read now">
        {(data) =>
          data.length === 0 ? (
            <Empty icon="chip" title="No node is here">
              Let one of your own machines join with <code>gfe admin invite</code>, or wait for a provider.
            </Empty>
          ) : (
            <Table
              caption="Nodes by state and kind"
              rows={countByStanding(data)}
              keyOf={(row) => row.standing}
              columns={[
                { name: "State", cell: ({ standing }) => <Status tone={shownAs(standing)[0]}>{shownAs(standing)[1]}</Status> },
                { name: "Trusted", isFigure: true, cell: (row) => row.trusted },
                { name: "Edge", isFigure: true, cell: (row) => row.edge },
              ]}
            />
          )
        }
      </Loaded>
    </Card>
  );
}

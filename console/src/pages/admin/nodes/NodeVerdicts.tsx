import { useInfiniteQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Card } from "../../../components/Card.tsx";
import { Empty } from "../../../components/Empty.tsx";
import { Segments } from "../../../components/Segments.tsx";
import { Status } from "../../../components/Status.tsx";
import { Table } from "../../../components/Table.tsx";
import { Time } from "../../../components/Time.tsx";
import style from "../admin.module.css";
import { queries, type Verdict } from "../queries.ts";
import { Rows } from "../Rows.tsx";

const CHOICES = [
  { value: "all", name: "All" },
  { value: "flagged", name: "Flagged" },
  { value: "clean", name: "Not flagged" },
] as const;
type Choice = (typeof CHOICES)[number]["value"];

/** What audits found about a node, job by job. */
export function NodeVerdicts({ id }: { id: string }) {
  const [choice, setChoice] = useState<Choice>("all");
  const verdicts = useInfiniteQuery(queries.verdicts(id, choice === "all" ? undefined : choice === "flagged"));
  return (
    <Card title="Audits" aside={<Segments label="Which audits" options={CHOICES} value={choice} onChoose={setChoice} />}>
      <Rows
        query={verdicts}
        what="The audits cannot be read now"
        empty={
          <Empty icon="shield" title="There is no audit here">
            A share of the jobs of edge nodes is audited; trusted nodes are not.
          </Empty>
        }
      >
        {(rows) => (
          <Table
            caption="Audits of this node"
            rows={rows}
            keyOf={(row) => row.job_id}
            columns={[
              {
                name: "Job",
                cell: (row) => (
                  <span className={style.two}>
                    <code>{row.job_id}</code>
                    <small>{row.detail}</small>
                  </span>
                ),
              },
              { name: "Model", cell: (row) => <code>{row.model}</code> },
              { name: "Found", cell: (row) => <Found verdict={row} /> },
              { name: "Worst window", isFigure: true, cell: (row) => row.score.toFixed(2) },
              { name: "Tokens", isFigure: true, cell: (row) => row.tokens },
              { name: "When", cell: (row) => <Time at={row.at} /> },
            ]}
          />
        )}
      </Rows>
    </Card>
  );
}

function Found({ verdict }: { verdict: Verdict }) {
  if (verdict.is_flagged)
    return <Status tone="bad">{verdict.rule === "count" ? "Flagged: counts" : `Flagged: rule ${verdict.rule}`}</Status>;
  return verdict.rule === "none" ? <Status tone="none">Not to be judged</Status> : <Status tone="ok">Fits the model</Status>;
}

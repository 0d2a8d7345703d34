import { Status } from "../../components/Status.tsx";
import { Table } from "../../components/Table.tsx";
import { Time } from "../../components/Time.tsx";
import { counted } from "../../words.ts";
import type { Audits } from "../provider/queries.ts";
import { sentence } from "../provider/standing.ts";
import style from "./Verdicts.module.css";
import { verdictOf } from "./words.ts";

/** Audited jobs, the newest first, each with what was found. */
export function Verdicts({ rows }: { rows: Audits["results"] }) {
  return (
    <Table
      caption="Audited jobs"
      rows={rows}
      keyOf={(row) => row.job_id}
      columns={[
        {
          name: "Job",
          cell: (row) => (
            <div className={style.job}>
              <code>{row.job_id}</code>
              <code className={style.why}>{row.model}</code>
            </div>
          ),
        },
        {
          name: "Found",
          cell: (row) => {
            const { tone, word } = verdictOf(row);
            return <Status tone={tone}>{word}</Status>;
          },
        },
        {
          name: "Why",
          cell: (row) => (
            <span className={style.why}>
              {row.detail ? sentence(row.detail) : `About ${verdictOf(row).about}.`}
              {row.windows > 0 ? ` ${counted(row.tokens, "token")} in ${counted(row.windows, "window")}.` : ""}
            </span>
          ),
        },
        { name: "Score", isFigure: true, cell: (row) => (row.rule === "none" ? "–" : row.score.toFixed(2)) },
        { name: "When", isFigure: true, cell: (row) => <Time at={row.at} /> },
      ]}
    />
  );
}

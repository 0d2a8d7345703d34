import { Link } from "@tanstack/react-router";
import type { JobRow } from "../live/messages.ts";
import { Credits } from "./Credits.tsx";
import { JobStatus } from "./JobStatus.tsx";
import style from "./JobTable.module.css";
import { Table } from "./Table.tsx";
import { Time } from "./Time.tsx";

/** Jobs as rows, each a link to its page. */
export function JobTable({ jobs, caption }: { jobs: readonly JobRow[]; caption: string }) {
  return (
    <Table
      caption={caption}
      rows={jobs}
      keyOf={(job) => job.id}
      columns={[
        {
          name: "Prompt",
          cell: (job) => (
            <Link to="/dashboard/jobs/$id" params={{ id: job.id }} className={style.prompt}>
              {job.prompt || job.id}
            </Link>
          ),
        },
        {
          name: "Model",
          cell: (job) => (
            <code className={style.model} title={job.model}>
              {job.model}
            </code>
          ),
        },
        { name: "State", cell: (job) => <JobStatus status={job.status} /> },
        {
          name: "Submitted",
          cell: (job) => (
            <span className={style.when}>
              <Time at={job.created_at} />
            </span>
          ),
        },
        { name: "Cost", isFigure: true, cell: (job) => (job.cost === null ? "open" : <Credits amount={job.cost} bare />) },
      ]}
    />
  );
}

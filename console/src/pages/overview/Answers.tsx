import { useEffect } from "react";
import { desk } from "../../jobs/desk.ts";
import { useDesk } from "../../jobs/use-desk.ts";
import { useOpenJobs } from "../../jobs/use-open-jobs.ts";
import { Answer } from "./Answer.tsx";
import style from "./Answers.module.css";

/** The last jobs begun here, side by side, each with its answer as it comes. */
export function Answers() {
  const { runs } = useDesk();
  const { rows } = useOpenJobs();
  useEffect(() => {
    if (rows === undefined) return;
    desk.found(rows.map(({ id, model, prompt }) => ({ id, model, prompt, submittedAt: undefined, held: undefined })));
  }, [rows]);
  if (runs.length === 0) return null;
  return (
    <section aria-label="Answers" className={style.answers} data-count={runs.length}>
      {runs.map((run) => (
        <Answer key={run.id} run={run} row={rows?.find((row) => row.id === run.id)} />
      ))}
    </section>
  );
}

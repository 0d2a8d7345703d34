import { Link } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { CopyButton } from "../../components/CopyButton.tsx";
import { Icon } from "../../components/Icon.tsx";
import { JobStatus } from "../../components/JobStatus.tsx";
import { AnswerFigures } from "../../jobs/AnswerFigures.tsx";
import { AnswerText } from "../../jobs/AnswerText.tsx";
import { desk, type Run } from "../../jobs/desk.ts";
import { OutcomeNotice } from "../../jobs/OutcomeNotice.tsx";
import { StopButton } from "../../jobs/StopButton.tsx";
import { useReading } from "../../jobs/use-reading.ts";
import { Waits } from "../../jobs/Waits.tsx";
import type { JobRow } from "../../live/messages.ts";
import style from "./Answer.module.css";

interface Props {
  run: Run;
  /** As lists show it, while it is open. */
  row: JobRow | undefined;
}

/** One job of the playground: state, answer, figures. */
export function Answer({ run, row }: Props) {
  const reading = useReading(run.id);
  const place = useRef<HTMLElement>(null);
  const { job } = reading;
  const status = job?.status ?? (reading.text || reading.thinking || row?.status === "RUNNING" ? "RUNNING" : "PENDING");
  const isNew = run.submittedAt !== undefined && reading.next === 0;
  // biome-ignore lint/correctness/useExhaustiveDependencies: looked for once, when it appears
  useEffect(() => {
    if (isNew) place.current?.scrollIntoView({ block: "nearest" });
  }, []);
  return (
    <article ref={place} className={style.answer} aria-label={`Answer of ${run.model}`} data-open={job === undefined || undefined}>
      <header className={style.head}>
        <div className={style.what}>
          <code title={run.model}>{run.model}</code>
          <span role="status">
            <JobStatus status={status} />
          </span>
        </div>
        <div className={style.actions}>
          {job === undefined ? <StopButton id={run.id} look="quiet" /> : <CopyButton text={reading.text} what="answer" />}
          <button type="button" className={style.remove} aria-label="Put the answer away" onClick={() => desk.remove(run.id)}>
            <Icon name="close" size={18} />
          </button>
        </div>
      </header>
      <p className={style.prompt}>
        <Link to="/dashboard/jobs/$id" params={{ id: run.id }}>
          {run.prompt.trim() || run.id}
        </Link>
      </p>
      <div className={style.body}>
        {job ? <OutcomeNotice job={job} /> : null}
        {status === "PENDING" ? <Waits id={run.id} /> : <AnswerText id={run.id} reading={reading} scrolls />}
      </div>
      <AnswerFigures job={job} held={run.held} seen={{ ...reading, submittedAt: run.submittedAt }} />
    </article>
  );
}

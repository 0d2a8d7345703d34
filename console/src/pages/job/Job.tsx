import { useQuery } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { asProblem } from "../../client/problem.ts";
import { ButtonLink } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { CopyButton } from "../../components/CopyButton.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { AnswerText } from "../../jobs/AnswerText.tsx";
import { OutcomeNotice } from "../../jobs/OutcomeNotice.tsx";
import { UNREAD } from "../../jobs/reading.ts";
import { useReading } from "../../jobs/use-reading.ts";
import { Waits } from "../../jobs/Waits.tsx";
import { isOpen } from "../../live/news.ts";
import { usePolling } from "../../live/use-live.ts";
import { type Job as JobData, queries } from "../../queries.ts";
import { Page } from "../../shell/Page.tsx";
import { Facts } from "./Facts.tsx";
import style from "./Job.module.css";
import { JobActions } from "./JobActions.tsx";
import { JobWaits } from "./JobWaits.tsx";
import { Prompt } from "./Prompt.tsx";
import { Receipt } from "./Receipt.tsx";
import { Why } from "./Why.tsx";

const POLL_MS = 3_000;

/** F6: one job: what was asked, what came back, what it cost, who served it and why. */
export function Job() {
  const { id } = useParams({ from: "/dashboard/jobs/$id" });
  const job = useQuery({ ...queries.job(id), refetchInterval: usePolling(POLL_MS) });
  const isUnknown = job.error !== null && [403, 404].includes(asProblem(job.error).status);
  return (
    <Page
      title="Job"
      lead={
        <span className={style.id}>
          <code>{id}</code>
          <CopyButton text={id} what="the job’s id" />
        </span>
      }
      actions={job.data ? <JobActions job={job.data} /> : null}
    >
      {isUnknown ? (
        <Empty icon="search" title="There is no such job of yours" action={<ButtonLink to="/dashboard/jobs">All jobs</ButtonLink>}>
          It may belong to another account.
        </Empty>
      ) : (
        <Loaded query={job} what="The job cannot be read now" waits={<JobWaits />}>
          {(data) => <Told job={data} />}
        </Loaded>
      )}
    </Page>
  );
}

function Told({ job: row }: { job: JobData }) {
  const wasOpen = isOpen(row);
  const live = useReading(row.id, wasOpen);
  const job: JobData = live.job ?? row;
  const reading = isOpen(job) ? live : { ...UNREAD, text: job.result?.output ?? "", job };
  return (
    <>
      <OutcomeNotice job={job} />
      <div className={style.places}>
        <div className={style.words}>
          <Prompt job={job} />
          <Card title="Answer" aside={reading.text ? <CopyButton text={reading.text} what="answer" /> : null}>
            {job.status === "PENDING" && reading.text === "" ? (
              <Waits id={job.id} />
            ) : reading.text || isOpen(job) ? (
              <AnswerText id={job.id} reading={reading} />
            ) : (
              <p className={style.none}>Nothing was delivered.</p>
            )}
          </Card>
        </div>
        <div className={style.facts}>
          <Facts job={job} />
          <Why job={job} />
          <Receipt job={job} />
        </div>
      </div>
    </>
  );
}

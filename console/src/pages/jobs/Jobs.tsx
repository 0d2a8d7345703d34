import { useInfiniteQuery } from "@tanstack/react-query";
import { useSearch } from "@tanstack/react-router";
import { useRef } from "react";
import { Button, ButtonLink } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Icon } from "../../components/Icon.tsx";
import { JobTable } from "../../components/JobTable.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { More } from "../../components/More.tsx";
import { listed } from "../../jobs/listing.ts";
import { useLive, usePolling } from "../../live/use-live.ts";
import { queries } from "../../queries.ts";
import { Page } from "../../shell/Page.tsx";
import { Filters } from "./Filters.tsx";
import style from "./Jobs.module.css";
import { useHeldBack } from "./use-held-back.ts";

const POLL_MS = 10_000;

/** F6: all jobs of the account, by pages, live. */
export function Jobs() {
  const filter = useSearch({ from: "/dashboard/jobs" });
  const jobs = useInfiniteQuery({ ...queries.jobs(filter), refetchInterval: usePolling(POLL_MS) });
  const told = useLive((state) => state.jobs);
  const place = useRef<HTMLDivElement>(null);
  const all = jobs.data ? listed(jobs.data.pages, told, filter) : [];
  const { shown, held, show } = useHeldBack(all, JSON.stringify(filter), place);
  const isFiltered = filter.status !== undefined || filter.model !== undefined;
  return (
    <Page
      title="Jobs"
      lead="Everything you have asked, by this page or by the API."
      actions={
        <ButtonLink to="/dashboard" look="gold" icon={<Icon name="plus" />}>
          New job
        </ButtonLink>
      }
    >
      <Filters filter={filter} seen={all.map((job) => job.model)} />
      <Card>
        <div ref={place}>
          <div className={style.news} role="status">
            {held > 0 ? <Button onClick={show}>Show {held === 1 ? "1 new job" : `${held} new jobs`}</Button> : null}
          </div>
          <Loaded query={jobs} what="The jobs cannot be read now">
            {() =>
              all.length > 0 ? (
                <JobTable caption="Jobs, the newest first" jobs={shown} />
              ) : isFiltered ? (
                <Empty icon="search" title="No job is like that" action={<ButtonLink to="/dashboard/jobs">Show all jobs</ButtonLink>} />
              ) : (
                <Empty icon="list" title="No jobs yet" action={<ButtonLink to="/dashboard">Submit the first one</ButtonLink>}>
                  Each job stays here with its prompt, its answer and what it cost.
                </Empty>
              )
            }
          </Loaded>
          <More query={jobs} />
        </div>
      </Card>
    </Page>
  );
}

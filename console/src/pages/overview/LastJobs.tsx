import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Card } from "../../components/Card.tsx";
import { Empty } from "../../components/Empty.tsx";
import { JobTable } from "../../components/JobTable.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { listed } from "../../jobs/listing.ts";
import { isOpen } from "../../live/news.ts";
import { useLive, usePolling } from "../../live/use-live.ts";
import { queries } from "../../queries.ts";

const SHOWN = 5;
const POLL_MS = 10_000;

/** The jobs that ended last. */
export function LastJobs() {
  const jobs = useInfiniteQuery({ ...queries.jobs(), refetchInterval: usePolling(POLL_MS) });
  const told = useLive((state) => state.jobs);
  return (
    <Card title="Last jobs" aside={<Link to="/dashboard/jobs">All jobs</Link>}>
      <Loaded query={jobs} what="The last jobs cannot be read now">
        {({ pages }) => {
          const ended = listed(pages, told).filter((job) => !isOpen(job));
          if (ended.length > 0) return <JobTable caption="Last jobs" jobs={ended.slice(0, SHOWN)} />;
          return (
            <Empty icon="list" title="No job has ended yet">
              Write a prompt above and submit it: its answer comes beside it, and its cost stands here.
            </Empty>
          );
        }}
      </Loaded>
    </Card>
  );
}

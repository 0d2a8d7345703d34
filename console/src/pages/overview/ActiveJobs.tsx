import { Card } from "../../components/Card.tsx";
import { Empty } from "../../components/Empty.tsx";
import { JobTable } from "../../components/JobTable.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { useOpenJobs } from "../../jobs/use-open-jobs.ts";

/** Every job that waits or runs, live, whichever way it was submitted. */
export function ActiveJobs() {
  const { asked, rows = [] } = useOpenJobs();
  return (
    <Card title="Active jobs">
      <Loaded query={asked} what="The open jobs cannot be read now">
        {() =>
          rows.length > 0 ? (
            <JobTable caption="Active jobs" jobs={rows} />
          ) : (
            <Empty icon="clock" title="Nothing waits or runs">
              A job shows here from the moment it is submitted until it ends, from this page or by the API.
            </Empty>
          )
        }
      </Loaded>
    </Card>
  );
}

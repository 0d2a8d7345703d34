import { useNavigate } from "@tanstack/react-router";
import { Button } from "../../components/Button.tsx";
import { Icon } from "../../components/Icon.tsx";
import { desk } from "../../jobs/desk.ts";
import { StopButton } from "../../jobs/StopButton.tsx";
import { isOpen } from "../../live/news.ts";
import type { Job } from "../../queries.ts";

/** What one can do with a job: cancel it while it is open, ask the same again. */
export function JobActions({ job }: { job: Job }) {
  const navigate = useNavigate();
  const again = () => {
    desk.edit({ model: job.model, prompt: job.prompt, system: job.system ?? "" }); // in memory: a prompt stands in no address
    void navigate({ to: "/dashboard" });
  };
  return (
    <>
      {isOpen(job) ? <StopButton id={job.id} /> : null}
      <Button icon={<Icon name="refresh" size={18} />} onClick={again}>
        Ask again
      </Button>
    </>
  );
}

import { Card } from "../../components/Card.tsx";
import { CopyButton } from "../../components/CopyButton.tsx";
import type { Job } from "../../queries.ts";
import style from "./Prompt.module.css";

/** What was asked. */
export function Prompt({ job }: { job: Job }) {
  return (
    <Card title="Prompt" aside={<CopyButton text={job.prompt} what="prompt" />}>
      {job.system ? (
        <p className={style.system}>
          <span>System prompt</span>
          {job.system}
        </p>
      ) : null}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by the keyboard */}
      <div className={style.prompt} tabIndex={0} role="group" aria-label="Prompt">
        {job.prompt}
      </div>
    </Card>
  );
}

import { useQuery } from "@tanstack/react-query";
import { Card } from "../../components/Card.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { isOpen } from "../../live/news.ts";
import { type Job, type JobWhy, queries } from "../../queries.ts";
import style from "./Why.module.css";
import { chosenText, waitingText } from "./why.ts";

const AGAIN_MS = 3_000;

/** Why it went where it went, or why it still waits: one sentence per node. */
export function Why({ job }: { job: Job }) {
  const why = useQuery({ ...queries.jobWhy(job.id), refetchInterval: isOpen(job) ? AGAIN_MS : false });
  return (
    <div id="why" className={style.place}>
      <Card title={job.status === "PENDING" ? "Why it waits" : "Why it went there"}>
        <Loaded query={why} what="The reasons cannot be read now" waits={<Skeleton height="3rem" />}>
          {(told) => <Told why={told} />}
        </Loaded>
      </Card>
    </div>
  );
}

function Told({ why }: { why: JobWhy }) {
  const waiting = waitingText(why);
  return (
    <div className={style.why}>
      {waiting ? <p>{waiting}</p> : null}
      <ol>
        {why.decisions.map((decision) => (
          <li key={`${decision.attempt} ${decision.at}`}>
            <p>{chosenText(decision)}</p>
            {Object.keys(decision.refused).length > 0 ? <Refused refused={decision.refused} /> : null}
          </li>
        ))}
      </ol>
    </div>
  );
}

/** Why not the others; out of the way, for they can be many. */
function Refused({ refused }: { refused: Record<string, string> }) {
  return (
    <details>
      <summary>Why not the others</summary>
      <ul>
        {Object.entries(refused).map(([node, reason]) => (
          <li key={node}>
            <code>{node}</code>: {reason}
          </li>
        ))}
      </ul>
    </details>
  );
}

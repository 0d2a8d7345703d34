import type { ReactNode } from "react";
import { Card } from "../../components/Card.tsx";
import { Credits } from "../../components/Credits.tsx";
import { JobStatus } from "../../components/JobStatus.tsx";
import { Time } from "../../components/Time.tsx";
import { between, spanText, tokensPerS } from "../../jobs/pace.ts";
import type { Job } from "../../queries.ts";
import style from "./Facts.module.css";

/** A job in figures. */
export function Facts({ job }: { job: Job }) {
  const [waited, took, speed] = [between(job.created_at, job.started_at), between(job.started_at, job.completed_at), tokensPerS(job)];
  return (
    <Card title="Facts">
      <dl className={style.facts}>
        <Fact name="State">
          <span role="status">
            <JobStatus status={job.status} />
          </span>
        </Fact>
        <Fact name="Model">
          <code>{job.model}</code>
        </Fact>
        <Fact name="Node">{job.node ? <NodeName node={job.node} /> : "none yet"}</Fact>
        <Fact name={job.cost === null ? "Held" : "Cost"}>
          <Credits amount={job.cost ?? job.held} />
        </Fact>
        <Fact name="Tokens in">{job.usage?.prompt_tokens.toLocaleString("en")}</Fact>
        <Fact name="Tokens out">{job.usage?.completion_tokens?.toLocaleString("en")}</Fact>
        <Fact name="Submitted">
          <Time at={job.created_at} />
        </Fact>
        <Fact name="Waited">{waited === undefined ? undefined : spanText(waited / 1000)}</Fact>
        <Fact name="Ran">{took === undefined ? undefined : spanText(took / 1000)}</Fact>
        <Fact name="Tokens per second">{speed?.toFixed(1)}</Fact>
        <Fact name="Attempts">{job.attempts}</Fact>
      </dl>
    </Card>
  );
}

function NodeName({ node }: { node: NonNullable<Job["node"]> }) {
  return (
    <>
      {node.name}
      {node.provider ? <span className={style.of}> of {node.provider}</span> : null}
    </>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className="figures">{children ?? "–"}</dd>
    </div>
  );
}

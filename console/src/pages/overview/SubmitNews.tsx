import { Link } from "@tanstack/react-router";
import { asProblem, type Problem } from "../../client/problem.ts";
import { ButtonLink } from "../../components/Button.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Notice } from "../../components/Notice.tsx";
import type { useSubmit } from "../../jobs/use-submit.ts";
import { credits } from "../../money.ts";

/** What became of pressing the button. */
export function SubmitNews({ submit }: { submit: ReturnType<typeof useSubmit> }) {
  if (submit.data) {
    return (
      <Notice kind="ok" title="Job Submitted">
        {credits(submit.data.held)} held; what it does not cost comes back.{" "}
        <Link to="/dashboard/jobs/$id" params={{ id: submit.data.job_id }}>
          See the job
        </Link>
      </Notice>
    );
  }
  if (!submit.error) return null;
  const problem = asProblem(submit.error);
  if (problem.code === "insufficient_funds") return <Short problem={problem} />;
  if (Object.keys(problem.fields).length > 0)
    return (
      <Notice kind="bad" title="The job was not submitted">
        {problem.message}
      </Notice>
    );
  return <Failure problem={problem} what="The job was not submitted" />;
}

/** Too little to reserve what the job may cost. */
function Short({ problem }: { problem: Problem }) {
  const { available, required } = problem.body as { available?: string; required?: string };
  return (
    <Notice kind="bad" title="Insufficient funds" action={<ButtonLink to="/dashboard/wallet">Add funds</ButtonLink>}>
      {available && required ? `It can cost ${credits(required)}; you have ${credits(available)}. ` : ""}
      Nothing was held. Add funds, or allow a shorter answer.
    </Notice>
  );
}

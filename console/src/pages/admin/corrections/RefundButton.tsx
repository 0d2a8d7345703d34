import { useState } from "react";
import { answer } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import { Credits } from "../../../components/Credits.tsx";
import { Field } from "../../../components/Field.tsx";
import { ChangeButton } from "../change/ChangeButton.tsx";

/** Gives back what a job cost, from those who were paid for it; the same job is refunded once. */
export function RefundButton() {
  const [job, setJob] = useState("");
  return (
    <ChangeButton
      label="Refund a job"
      title="Refund a job"
      action="Refund"
      reason="Reason"
      fields={["job_id"]}
      stale={[]}
      change={async ({ reason, headers }) => {
        const made = await answer(ledger.POST("/api/admin/refunds/", { body: { job_id: job.trim(), reason }, headers }));
        setJob("");
        return {
          title: "Refunded",
          text: (
            <>
              <Credits amount={made.amount} /> went back to who paid for the job.
            </>
          ),
        };
      }}
    >
      {(problem) => (
        <>
          <p>What the job cost goes back to its consumer, out of the earnings of those who were paid for it. A job is refunded once.</p>
          <Field
            label="Job"
            data-autofocus
            hint="Its id: job_…"
            value={job}
            onChange={(event) => setJob(event.target.value)}
            error={problem?.field("job_id")}
            autoComplete="off"
            spellCheck={false}
            required
          />
        </>
      )}
    </ChangeButton>
  );
}

import { useMutation } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { done } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import { asProblem } from "../../client/problem.ts";
import { Button } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Field } from "../../components/Field.tsx";
import { Notice } from "../../components/Notice.tsx";
import { Status } from "../../components/Status.tsx";
import type { Profile } from "../../queries.ts";
import style from "./Form.module.css";
import { useProfileChange } from "./saving.ts";
import { WhereMailsAre } from "./WhereMailsAre.tsx";

/** The address, whether it is proven, and another one. */
export function Email({ profile }: { profile: Profile }) {
  const [text, setText] = useState(profile.email ?? "");
  const change = useProfileChange();
  const resend = useMutation({ mutationFn: () => done(ledger.POST("/api/core/email/resend/")) });
  const problem = change.error ? asProblem(change.error) : undefined;
  const isSame = text.trim() === (profile.email ?? "");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (isSame || text.trim() === "") return;
    resend.reset();
    change.mutate({ email: text.trim() });
  };
  const isMailed = (change.isSuccess && !profile.email_verified) || resend.isSuccess;
  return (
    <Card title="E-mail" aside={<State profile={profile} />}>
      <form className={style.form} onSubmit={submit}>
        <Field
          label="Address"
          name="email"
          type="email"
          autoComplete="email"
          required
          value={text}
          error={problem?.field("email")}
          hint="For a new password when you forgot yours, and for news of your machines. Nobody else sees it."
          onChange={(event) => {
            setText(event.target.value);
            change.reset();
          }}
        />
        {problem && !problem.field("email") ? <Failure problem={problem} what="The address was not saved" /> : null}
        {isMailed ? (
          <Notice kind="ok" title={`A mail is on its way to ${profile.email}`}>
            Its link confirms the address. It works for two days. <WhereMailsAre />
          </Notice>
        ) : null}
        {resend.error ? <Failure problem={resend.error} what="No mail was sent" /> : null}
        <div className={style.row}>
          <Button type="submit" look={isSame ? "plain" : "gold"} disabled={isSame || text.trim() === ""} busy={change.isPending}>
            Save address
          </Button>
          {profile.email && !profile.email_verified && isSame ? (
            <Button busy={resend.isPending} onClick={() => resend.mutate()}>
              Send the mail again
            </Button>
          ) : null}
        </div>
      </form>
    </Card>
  );
}

function State({ profile }: { profile: Profile }) {
  if (profile.email === null) return <Status tone="none">None</Status>;
  return profile.email_verified ? <Status tone="ok">Confirmed</Status> : <Status tone="warn">Not confirmed</Status>;
}

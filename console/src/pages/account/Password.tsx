import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { done } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import { asProblem } from "../../client/problem.ts";
import { Button, ButtonLink } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Field } from "../../components/Field.tsx";
import { Notice } from "../../components/Notice.tsx";
import { Rules } from "../../components/Rules.tsx";
import { keys, type Profile } from "../../queries.ts";
import { rulesFor } from "../../session/password.ts";
import { askForReset } from "../../session/remote.ts";
import style from "./Form.module.css";
import { WhereMailsAre } from "./WhereMailsAre.tsx";

/** Another password; or the first one, for who signs in through another service. */
export function Password({ profile }: { profile: Profile }) {
  return <Card title="Password">{profile.has_password ? <ChangeForm profile={profile} /> : <FirstPassword profile={profile} />}</Card>;
}

function ChangeForm({ profile }: { profile: Profile }) {
  const [old, setOld] = useState("");
  const [fresh, setFresh] = useState("");
  const queries = useQueryClient();
  const change = useMutation({
    mutationFn: () => done(ledger.POST("/api/core/password/change/", { body: { old_password: old, new_password: fresh } })),
    onSuccess: () => {
      setOld("");
      setFresh("");
      void queries.invalidateQueries({ queryKey: keys.sessions });
    },
  });
  const problem = change.error ? asProblem(change.error) : undefined;
  const isAtField = problem?.field("old_password") ?? problem?.field("new_password");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    change.mutate();
  };
  return (
    <form className={style.form} onSubmit={submit}>
      {change.isSuccess ? (
        <Notice kind="ok" title="The new password counts">
          All other sign-ins of your account have ended. Your API keys go on.
        </Notice>
      ) : null}
      {/* Password managers want to know whose password it is. */}
      <input className="heard" type="text" autoComplete="username" value={profile.username} readOnly tabIndex={-1} aria-hidden="true" />
      <Field
        label="Old password"
        name="old-password"
        type="password"
        autoComplete="current-password"
        required
        value={old}
        error={problem?.field("old_password")}
        onChange={(event) => setOld(event.target.value)}
      />
      <Field
        label="New password"
        name="new-password"
        type="password"
        autoComplete="new-password"
        required
        value={fresh}
        error={problem?.field("new_password")}
        hint={<Rules rules={rulesFor(fresh, profile.username, profile.email ?? "")} />}
        onChange={(event) => setFresh(event.target.value)}
      />
      {problem && !isAtField ? <Failure problem={problem} what="The password was not changed" /> : null}
      <div className={style.row}>
        <Button type="submit" busy={change.isPending}>
          Change password
        </Button>
      </div>
    </form>
  );
}

function FirstPassword({ profile }: { profile: Profile }) {
  const ask = useMutation({ mutationFn: askForReset });
  const { email } = profile;
  return (
    <div className={style.form}>
      <p className={style.text}>You sign in through another service. With a password you can sign in without it, too.</p>
      {ask.isSuccess ? (
        <Notice kind="ok" title={`A mail is on its way to ${email}`}>
          Its link leads to a page where you set the password. It works once, for an hour. <WhereMailsAre />
        </Notice>
      ) : null}
      {ask.error ? <Failure problem={ask.error} what="No mail was sent" /> : null}
      <div className={style.row}>
        {email && profile.email_verified ? (
          <Button busy={ask.isPending} onClick={() => ask.mutate(email)}>
            Mail me a link to set one
          </Button>
        ) : (
          <ButtonLink to="/dashboard/account">Confirm an e-mail address first</ButtonLink>
        )}
      </div>
    </div>
  );
}

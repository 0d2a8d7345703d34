import { Link } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { Button } from "../../components/Button.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Field } from "../../components/Field.tsx";
import { Notice } from "../../components/Notice.tsx";
import { PublicPage } from "../../components/PublicPage.tsx";
import { useTitle } from "../../components/title.ts";
import { askForReset } from "../../session/remote.ts";
import style from "../login/Form.module.css";
import { useAttempt } from "./attempt.ts";

/** Has a code for a new password mailed. */
export function ForgotPassword() {
  useTitle("New password");
  const [email, setEmail] = useState("");
  const { run, isBusy, isDone, problem } = useAttempt(() => askForReset(email));
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void run();
  };
  return (
    <PublicPage narrow>
      <div className={style.card}>
        <div className={style.head}>
          <h1>New password</h1>
          <p>We send a link to the e-mail address that you confirmed. It works once, for an hour.</p>
        </div>
        {isDone ? (
          <Notice kind="ok" title="If we know this address, a mail is on its way">
            It leads to a page where you set the new password.
          </Notice>
        ) : (
          <form className={style.form} onSubmit={submit}>
            {problem ? <Failure problem={problem} /> : null}
            <Field
              label="E-mail"
              name="email"
              type="email"
              autoComplete="email"
              required
              value={email}
              onChange={(event) => setEmail(event.target.value)}
            />
            <Button type="submit" look="gold" wide busy={isBusy}>
              Send the link
            </Button>
          </form>
        )}
        <p className={style.foot}>
          <Link to="/login">Back to signing in</Link>
        </p>
      </div>
    </PublicPage>
  );
}

import { Link } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { Button, ButtonLink } from "../../components/Button.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Field } from "../../components/Field.tsx";
import { Notice } from "../../components/Notice.tsx";
import { PublicPage } from "../../components/PublicPage.tsx";
import { Rules } from "../../components/Rules.tsx";
import { useTitle } from "../../components/title.ts";
import { rulesFor } from "../../session/password.ts";
import { resetPassword } from "../../session/remote.ts";
import style from "../login/Form.module.css";
import { useAttempt } from "./attempt.ts";
import { useMailedCode } from "./code.ts";

/** Where the mail leads that lets somebody set a new password. */
export function ResetPassword() {
  useTitle("Set a new password");
  const code = useMailedCode();
  const [password, setPassword] = useState("");
  const { run, isBusy, isDone, problem } = useAttempt(() => resetPassword(code, password));
  const ofPassword = problem?.field("new_password") ?? problem?.field("password");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void run();
  };
  return (
    <PublicPage narrow>
      <div className={style.card}>
        <div className={style.head}>
          <h1>Set a new password</h1>
        </div>
        {isDone ? (
          <Empty icon="check" title="The new password counts" action={<ButtonLink to="/login">Sign in</ButtonLink>}>
            All other sign-ins of your account have ended.
          </Empty>
        ) : code === "" ? (
          <Empty icon="alert" title="The address has no code" action={<Link to="/forgot-password">Ask for another mail</Link>}>
            Open the link of the mail as it is.
          </Empty>
        ) : (
          <form className={style.form} onSubmit={submit}>
            {problem && !ofPassword ? (
              <Notice kind="bad" title="The password was not set" action={<Link to="/forgot-password">Ask for another mail</Link>}>
                {problem.message}
              </Notice>
            ) : null}
            <Field
              label="New password"
              name="password"
              type="password"
              autoComplete="new-password"
              required
              value={password}
              error={ofPassword}
              hint={<Rules rules={rulesFor(password, "", "")} />}
              onChange={(event) => setPassword(event.target.value)}
            />
            <Button type="submit" look="gold" wide busy={isBusy}>
              Set it
            </Button>
          </form>
        )}
      </div>
    </PublicPage>
  );
}

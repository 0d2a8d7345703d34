import { Link } from "@tanstack/react-router";
import { type FormEvent, useRef, useState } from "react";
import { asProblem, type Problem } from "../../client/problem.ts";
import { Button } from "../../components/Button.tsx";
import { Field } from "../../components/Field.tsx";
import { Notice } from "../../components/Notice.tsx";
import { signIn } from "../../session/remote.ts";
import style from "./Form.module.css";

export interface Entered {
  username: string;
  password: string;
}

interface Props {
  onSignedIn: (token: string) => void;
  /** Name and password are right; there is a second factor. */
  onCodeWanted: (entered: Entered) => void;
}

/** Username and password. A refusal keeps the username. */
export function PasswordStep({ onSignedIn, onCodeWanted }: Props) {
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  const passwordField = useRef<HTMLInputElement>(null);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setProblem(undefined);
    try {
      onSignedIn(await signIn({ username, password }));
    } catch (thrown) {
      const refusal = asProblem(thrown);
      if (refusal.code === "totp_required") return onCodeWanted({ username, password });
      setProblem(refusal);
      setPassword("");
      passwordField.current?.focus();
    } finally {
      setBusy(false);
    }
  };

  return (
    <form className={style.form} onSubmit={submit}>
      {problem ? <Refusal problem={problem} /> : null}
      <Field
        label="Username"
        name="username"
        autoComplete="username"
        autoCapitalize="none"
        spellCheck={false}
        required
        value={username}
        onChange={(event) => setUsername(event.target.value)}
      />
      <Field
        label="Password"
        name="password"
        type="password"
        autoComplete="current-password"
        required
        ref={passwordField}
        value={password}
        onChange={(event) => setPassword(event.target.value)}
      />
      <Link to="/forgot-password" className={style.aside}>
        Forgot your password?
      </Link>
      <Button type="submit" look="gold" wide busy={isBusy}>
        Sign in
      </Button>
    </form>
  );
}

function Refusal({ problem }: { problem: Problem }) {
  if (problem.status === 401) {
    return (
      <Notice kind="bad" title="Invalid credentials">
        No account has this name and password. Mind capitals in the password.
      </Notice>
    );
  }
  const wait = problem.retryAfterS;
  return (
    <Notice kind="bad" title={problem.title}>
      {problem.message}
      {wait ? ` Try again in ${wait} s.` : ""}
    </Notice>
  );
}

import { type FormEvent, useState } from "react";
import { asProblem, type Problem } from "../../client/problem.ts";
import { Button } from "../../components/Button.tsx";
import { Field } from "../../components/Field.tsx";
import { Notice } from "../../components/Notice.tsx";
import { Rules } from "../../components/Rules.tsx";
import { rulesFor } from "../../session/password.ts";
import { register, signIn } from "../../session/remote.ts";
import { session } from "../../session/session.ts";
import style from "../login/Form.module.css";
import { Purpose, type Role } from "./Purpose.tsx";

/** Username, e-mail, password, purpose. What is wrong stands at its field, and what was typed stays. */
export function RegisterForm() {
  const [username, setUsername] = useState("");
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  const [role, setRole] = useState<Role>("USER");
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem>();

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setProblem(undefined);
    try {
      await register({ username, password, role, ...(email ? { email } : {}) });
      session.adopt(await signIn({ username, password }));
    } catch (thrown) {
      setProblem(asProblem(thrown));
      setBusy(false);
    }
  };

  return (
    <form className={style.form} onSubmit={submit}>
      {problem ? (
        <Notice kind="bad" title="Registration failed">
          {problem.message}
          {problem.retryAfterS ? ` Try again in ${problem.retryAfterS} s.` : ""}
        </Notice>
      ) : null}
      <Field
        label="Username"
        name="username"
        autoComplete="username"
        autoCapitalize="none"
        spellCheck={false}
        required
        maxLength={150}
        value={username}
        error={problem?.field("username")}
        onChange={(event) => setUsername(event.target.value)}
      />
      <Field
        label="E-mail"
        name="email"
        type="email"
        autoComplete="email"
        hint="For a new password when you forgot yours. Nobody else sees it."
        value={email}
        error={problem?.field("email")}
        onChange={(event) => setEmail(event.target.value)}
      />
      <Field
        label="Password"
        name="password"
        type="password"
        autoComplete="new-password"
        required
        value={password}
        error={problem?.field("password")}
        hint={<Rules rules={rulesFor(password, username, email)} />}
        onChange={(event) => setPassword(event.target.value)}
      />
      <Purpose role={role} onChange={setRole} />
      <Button type="submit" look="gold" wide busy={isBusy}>
        Create account
      </Button>
    </form>
  );
}

import { type FormEvent, useState } from "react";
import { asProblem } from "../../client/problem.ts";
import { Button } from "../../components/Button.tsx";
import { Field } from "../../components/Field.tsx";
import { Notice } from "../../components/Notice.tsx";
import style from "./Form.module.css";

interface Props {
  onCode: (code: string) => Promise<void>;
  onBack: () => void;
}

/** The six digits of the second factor. */
export function CodeStep({ onCode, onBack }: Props) {
  const [code, setCode] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [error, setError] = useState<string>();

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await onCode(code.replace(/\s/g, ""));
    } catch (thrown) {
      const problem = asProblem(thrown);
      setError(problem.status === 401 ? "These digits do not fit, or were used already. Wait for the next ones." : problem.message);
      setCode("");
      setBusy(false);
    }
  };

  return (
    <form className={style.form} onSubmit={submit}>
      <Notice title="One more step">Your account has a second factor.</Notice>
      <Field
        label="Code of your authenticator"
        name="code"
        inputMode="numeric"
        autoComplete="one-time-code"
        pattern="[0-9 ]{6,8}"
        title="Six digits"
        required
        autoFocus
        value={code}
        error={error}
        onChange={(event) => setCode(event.target.value)}
      />
      <Button type="submit" look="gold" wide busy={isBusy}>
        Confirm
      </Button>
      <Button look="quiet" wide onClick={onBack}>
        Back
      </Button>
    </form>
  );
}

import type { ReactNode } from "react";
import { Field } from "./Field.tsx";

interface Props {
  value: string;
  onChange: (code: string) => void;
  error?: string | undefined;
  hint?: ReactNode;
  /** The keyboard goes there at once. */
  autoFocus?: boolean;
}

/** The six digits of an authenticator. */
export function CodeField({ value, onChange, error, hint, autoFocus = true }: Props) {
  return (
    <Field
      label="Code of your authenticator"
      name="code"
      inputMode="numeric"
      autoComplete="one-time-code"
      pattern="[0-9 ]{6,8}"
      title="Six digits"
      required
      data-autofocus={autoFocus || undefined}
      autoFocus={autoFocus}
      value={value}
      error={error}
      hint={hint}
      onChange={(event) => onChange(event.target.value.replace(/\s/g, ""))}
    />
  );
}

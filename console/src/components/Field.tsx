import { type InputHTMLAttributes, type ReactNode, type Ref, useId, useState } from "react";
import style from "./Field.module.css";
import { Icon } from "./Icon.tsx";

interface Props extends Omit<InputHTMLAttributes<HTMLInputElement>, "id"> {
  label: string;
  /** What to know before typing. */
  hint?: ReactNode;
  /** What is wrong with what was typed; announced. */
  error?: string | undefined;
  ref?: Ref<HTMLInputElement>;
}

/** A labeled field; one of type `password` can be looked at. */
export function Field({ label, hint, error, type = "text", ref, ...others }: Props) {
  const id = useId();
  const [isShown, setShown] = useState(false);
  const isPassword = type === "password";
  const described = [hint ? `${id}-hint` : "", error ? `${id}-error` : ""].filter(Boolean).join(" ");
  return (
    <div className={style.field}>
      <label htmlFor={id}>
        {label}
        {others.required ? null : <span className={style.optional}> (optional)</span>}
      </label>
      <div className={style.box}>
        <input
          {...others}
          id={id}
          ref={ref}
          type={isPassword && isShown ? "text" : type}
          aria-invalid={error ? true : undefined}
          aria-describedby={described || undefined}
        />
        {isPassword ? (
          <button
            type="button"
            className={style.eye}
            aria-pressed={isShown}
            aria-label={`Show ${label.toLowerCase()}`}
            onClick={() => setShown(!isShown)}
          >
            <Icon name="eye" />
          </button>
        ) : null}
      </div>
      {hint ? (
        <div id={`${id}-hint`} className={style.hint}>
          {hint}
        </div>
      ) : null}
      <p id={`${id}-error`} className={style.error} role="alert" hidden={!error}>
        {error}
      </p>
    </div>
  );
}

import { type ReactNode, type Ref, type TextareaHTMLAttributes, useId } from "react";
import style from "./Field.module.css";

interface Props extends Omit<TextareaHTMLAttributes<HTMLTextAreaElement>, "id"> {
  label: string;
  /** What to know before typing; stands below. */
  hint?: ReactNode;
  /** At the right of the hint: how much was typed. */
  counter?: ReactNode;
  /** What is wrong with what was typed; announced. */
  error?: string | undefined;
  /** As high as its place. */
  fill?: boolean;
  ref?: Ref<HTMLTextAreaElement>;
}

/** A labeled field for longer text. */
export function TextArea({ label, hint, counter, error, fill = false, ref, ...others }: Props) {
  const id = useId();
  const described = [hint || counter ? `${id}-hint` : "", error ? `${id}-error` : ""].filter(Boolean).join(" ");
  return (
    <div className={`${style.field} ${fill ? style.fill : ""}`}>
      <label htmlFor={id}>
        {label}
        {others.required ? null : <span className={style.optional}> (optional)</span>}
      </label>
      <div className={style.box}>
        <textarea {...others} id={id} ref={ref} aria-invalid={error ? true : undefined} aria-describedby={described || undefined} />
      </div>
      {hint || counter ? (
        <div id={`${id}-hint`} className={`${style.hint} ${style.below}`}>
          <span>{hint}</span>
          <span>{counter}</span>
        </div>
      ) : null}
      <p id={`${id}-error`} className={style.error} role="alert" hidden={!error}>
        {error}
      </p>
    </div>
  );
}

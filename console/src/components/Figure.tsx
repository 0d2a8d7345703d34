import type { ReactNode } from "react";
import style from "./Figure.module.css";
import { Skeleton } from "./Skeleton.tsx";

interface Props {
  label: string;
  /** Undefined: it has not come yet. */
  value: ReactNode | undefined;
  hint?: ReactNode;
  className?: string | undefined;
}

/** One figure with its name; put several into a `<dl>`. */
export function Figure({ label, value, hint, className }: Props) {
  return (
    <div className={className ? `${style.figure} ${className}` : style.figure}>
      <dt>{label}</dt>
      <dd className="figures">{value ?? <Skeleton width="4ch" height="0.9em" />}</dd>
      {hint ? <dd className={style.hint}>{hint}</dd> : null}
    </div>
  );
}

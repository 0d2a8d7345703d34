import type { ReactNode } from "react";
import style from "./Status.module.css";

export type Tone = "ok" | "warn" | "bad" | "busy" | "none";

/** A state: a sign of its own shape and a word, never a color alone. */
export function Status({ tone, children }: { tone: Tone; children: ReactNode }) {
  return (
    <span className={`${style.status} ${style[tone]}`}>
      <span className={style.sign} aria-hidden="true" />
      {children}
    </span>
  );
}

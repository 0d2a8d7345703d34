import type { ReactNode } from "react";
import style from "./Meter.module.css";

interface Props {
  label: string;
  /** How much of `most`. */
  value: number;
  most: number;
  /** The same in words, shown at the right: `2 of 4 in use`. */
  words: string;
  tone?: "royal" | "gold" | "warn";
  hint?: ReactNode;
}

/** A share of a whole, as a bar and in words. */
export function Meter({ label, value, most, words, tone = "royal", hint }: Props) {
  const percent = most > 0 ? Math.min(100, (100 * value) / most) : 0;
  return (
    <div className={style.meter}>
      <div className={style.head}>
        <span className={style.label}>{label}</span>
        <span className="figures">{words}</span>
      </div>
      <div
        className={style.track}
        role="meter"
        aria-label={label}
        aria-valuenow={value}
        aria-valuemin={0}
        aria-valuemax={Math.max(most, value)}
        aria-valuetext={words}
      >
        <div className={`${style.fill} ${style[tone]}`} style={{ width: `${percent}%` }} />
      </div>
      {hint}
    </div>
  );
}

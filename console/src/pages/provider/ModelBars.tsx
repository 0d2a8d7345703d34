import { Credits } from "../../components/Credits.tsx";
import { micros } from "../../money.ts";
import { counted } from "../../words.ts";
import style from "./ModelBars.module.css";
import type { Earnings } from "./queries.ts";

const MOST = 8;

/** Earnings by model: names, bars and amounts, the highest first. */
export function ModelBars({ models }: { models: Earnings["by_model"] }) {
  const shown = models.slice(0, MOST);
  const highest = micros(shown[0]?.earned ?? "1.00");
  const left = models.length - shown.length;
  return (
    <div>
      <ul className={style.bars}>
        {shown.map((one) => (
          <li key={one.model}>
            <div className={style.head}>
              <code>{one.model || "other"}</code>
              <span className={style.amount}>
                <Credits amount={one.earned} bare /> <small>{counted(one.jobs, "job")}</small>
              </span>
            </div>
            <div className={style.track}>
              <div className={style.bar} style={{ width: `${share(one.earned, highest)}%` }} />
            </div>
          </li>
        ))}
      </ul>
      {left > 0 ? <p className={style.left}>and {left} more in the table</p> : null}
    </div>
  );
}

/** How long a bar is, in percent of the longest; a refund can make one negative, which has none. */
function share(earned: string, highest: bigint): number {
  const value = micros(earned);
  return value <= 0n ? 0 : Math.max(1, Number((value * 1000n) / highest) / 10);
}

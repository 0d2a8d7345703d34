import { figure } from "../money.ts";
import style from "./BigAmount.module.css";

const SHOWN = 2; // decimals in full size

/** An amount as a headline: all of it, the decimals after the second one small. The unit stands beside. */
export function BigAmount({ amount }: { amount: string }) {
  const text = figure(amount);
  const cut = text.indexOf(".") + 1 + SHOWN;
  return (
    <span className="figures">
      {text.slice(0, cut)}
      {text.length > cut ? (
        <>
          <wbr />
          <small className={style.rest}>{text.slice(cut)}</small>
        </>
      ) : null}
    </span>
  );
}

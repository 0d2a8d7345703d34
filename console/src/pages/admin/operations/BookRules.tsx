import { Icon } from "../../../components/Icon.tsx";
import type { Findings } from "../queries.ts";
import style from "./BookRules.module.css";

const SHOWN = 5;

/** Each rule of the books, and what breaks it. */
export function BookRules({ rules }: { rules: Findings["rules"] }) {
  return (
    <ul className={style.rules}>
      {rules.map((rule) => (
        <li key={rule.rule} className={rule.held ? style.held : style.broken}>
          <Icon name={rule.held ? "check" : "alert"} size={18} />
          <div>
            <span className="heard">{rule.held ? "Holds: " : "Broken: "}</span>
            {rule.rule}
            {rule.violations.slice(0, SHOWN).map((row) => (
              <code key={row.join()}>{row.join(" · ")}</code>
            ))}
            {rule.violations.length > SHOWN ? <small>and {rule.violations.length - SHOWN} more</small> : null}
          </div>
        </li>
      ))}
    </ul>
  );
}

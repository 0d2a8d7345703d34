import type { Rule } from "../session/password.ts";
import { Icon } from "./Icon.tsx";
import style from "./Rules.module.css";

/** What is asked of a password, and what of it is kept already. */
export function Rules({ rules }: { rules: readonly Rule[] }) {
  return (
    <ul className={style.rules}>
      {rules.map(({ text, isKept }) => (
        <li key={text} className={isKept ? style.kept : ""}>
          <Icon name={isKept ? "check" : "minus"} size={16} />
          {text}
          <span className="heard">{isKept ? ": yes" : ": not yet"}</span>
        </li>
      ))}
    </ul>
  );
}

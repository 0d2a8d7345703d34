import { Icon } from "../../components/Icon.tsx";
import { CLAIMS } from "./claims.ts";
import { Section } from "./Section.tsx";
import style from "./Trust.module.css";

/** Why one can trust it, and how far. */
export function Trust() {
  return (
    <Section id="trust" title="Why trust it" lead="Not because we say so: each of these is checked by tests that anybody can run.">
      <ul className={style.claims}>
        {CLAIMS.map(({ icon, title, text }) => (
          <li key={title}>
            <span className={style.icon}>
              <Icon name={icon} size={22} />
            </span>
            <h3>{title}</h3>
            <p>{text}</p>
          </li>
        ))}
      </ul>
      <p className={style.limits}>
        <strong>And how far.</strong> Your prompt and its answer are visible to the machine that runs it. On community machines assume that
        the owner can read them. Encryption protects your data on the way, not on the machine.
      </p>
    </Section>
  );
}

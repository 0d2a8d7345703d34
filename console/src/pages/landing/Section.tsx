import type { ReactNode } from "react";
import style from "./Section.module.css";

interface Props {
  /** Where links of the page's head lead to. */
  id: string;
  title: string;
  lead?: ReactNode;
  /** On a ground of its own. */
  raised?: boolean;
  children: ReactNode;
}

/** A part of the landing page. */
export function Section({ id, title, lead, raised = false, children }: Props) {
  return (
    <section id={id} aria-labelledby={`${id}-title`} className={`${style.section} ${raised ? style.raised : ""}`}>
      <div className={style.inside}>
        <div className={style.head}>
          <h2 id={`${id}-title`}>{title}</h2>
          {lead ? <p>{lead}</p> : null}
        </div>
        {children}
      </div>
    </section>
  );
}

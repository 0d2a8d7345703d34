import type { ReactNode } from "react";
import { useTitle } from "../components/title.ts";
import style from "./Page.module.css";

interface Props {
  title: string;
  lead?: ReactNode;
  /** What one can do here, at the right of the title. */
  actions?: ReactNode;
  children: ReactNode;
}

/** A page inside the shell: names itself in the tab, has the one `h1`. */
export function Page({ title, lead, actions, children }: Props) {
  useTitle(title);
  return (
    <>
      <div className={style.head}>
        <div>
          <h1>{title}</h1>
          {lead ? <p>{lead}</p> : null}
        </div>
        {actions ? <div className={style.actions}>{actions}</div> : null}
      </div>
      {children}
    </>
  );
}

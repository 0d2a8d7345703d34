import type { ReactNode } from "react";
import { Icon, type IconName } from "./Icon.tsx";
import style from "./Notice.module.css";

const ICONS: Record<Kind, IconName> = { info: "info", ok: "check", warn: "alert", bad: "alert" };
type Kind = "info" | "ok" | "warn" | "bad";

interface Props {
  kind?: Kind;
  title: string;
  children?: ReactNode;
  /** What can be done about it. */
  action?: ReactNode;
}

/** Something to know, in its place: announced when it appears, at once when it is bad. */
export function Notice({ kind = "info", title, children, action }: Props) {
  return (
    <div className={`${style.notice} ${style[kind]}`} role={kind === "bad" ? "alert" : "status"}>
      <span className={style.icon}>
        <Icon name={ICONS[kind]} />
      </span>
      <div className={style.text}>
        <strong>{title}</strong>
        {children ? <div className={style.more}>{children}</div> : null}
      </div>
      {action}
    </div>
  );
}

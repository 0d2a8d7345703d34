import type { ReactNode } from "react";
import style from "./Empty.module.css";
import { Icon, type IconName } from "./Icon.tsx";

interface Props {
  icon?: IconName;
  title: string;
  /** What comes next: nothing is here yet because … */
  children?: ReactNode;
  /** A button or link to it. */
  action?: ReactNode;
}

/** Nothing is here yet; says what the next step is. */
export function Empty({ icon = "spark", title, children, action }: Props) {
  return (
    <div className={style.empty}>
      <span className={style.icon}>
        <Icon name={icon} size={26} />
      </span>
      <p className={style.title}>{title}</p>
      {children ? <p className={style.more}>{children}</p> : null}
      {action}
    </div>
  );
}

import type { ReactNode } from "react";
import style from "./Card.module.css";

interface Props {
  children: ReactNode;
  /** With a heading the card is a region of the page, named by it. */
  title?: string;
  /** What stands at the right of the heading: a link, a button. */
  aside?: ReactNode;
  /** Level of the heading. */
  level?: 2 | 3;
  /** Lets the ground shine through; never under long text. */
  glass?: boolean;
}

export function Card({ children, title, aside, level = 2, glass = false }: Props) {
  const className = `${style.card} ${glass ? style.glass : ""}`;
  if (title === undefined) return <div className={className}>{children}</div>;
  const Heading = `h${level}` as const;
  return (
    <section className={className} aria-label={title}>
      <div className={style.head}>
        <Heading>{title}</Heading>
        {aside}
      </div>
      {children}
    </section>
  );
}

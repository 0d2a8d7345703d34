import type { ReactNode } from "react";
import { PublicFooter } from "./PublicFooter.tsx";
import { PublicHeader } from "./PublicHeader.tsx";
import style from "./PublicPage.module.css";

/** A page that everybody may see: top, content, end. `narrow`: one card in the middle, as for signing in. */
export function PublicPage({ children, narrow = false }: { children: ReactNode; narrow?: boolean }) {
  return (
    <div className={style.page}>
      <a className="skip" href="#main">
        Skip to the content
      </a>
      <PublicHeader />
      <main id="main" tabIndex={-1} className={narrow ? style.narrow : style.wide}>
        {children}
      </main>
      <PublicFooter />
    </div>
  );
}

import { useRouterState } from "@tanstack/react-router";
import { ButtonLink } from "../../components/Button.tsx";
import { Icon } from "../../components/Icon.tsx";
import { PublicPage } from "../../components/PublicPage.tsx";
import { useTitle } from "../../components/title.ts";
import { useSession } from "../../session/use-session.ts";
import style from "./NotFound.module.css";

/** F11: there is no such page, and a way back. */
export function NotFound() {
  useTitle("Page not found");
  const path = useRouterState({ select: (state) => state.location.pathname });
  const { status } = useSession();
  return (
    <PublicPage narrow>
      <div className={style.card}>
        <p className={style.code} aria-hidden="true">
          404
        </p>
        <h1>There is no such page</h1>
        <p className={style.more}>
          Nothing is at <code>{path}</code>. It may have moved, or the address has a slip.
        </p>
        <div className={style.ways}>
          <ButtonLink to="/" look="gold" icon={<Icon name="back" size={18} />}>
            To the front page
          </ButtonLink>
          {status === "in" ? <ButtonLink to="/dashboard">To the dashboard</ButtonLink> : null}
        </div>
      </div>
    </PublicPage>
  );
}

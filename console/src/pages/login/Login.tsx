import { Link, useNavigate, useRouter, useSearch } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import { Notice } from "../../components/Notice.tsx";
import { PublicPage } from "../../components/PublicPage.tsx";
import { useTitle } from "../../components/title.ts";
import { safeNext } from "../../session/next.ts";
import { finishJourney, signIn } from "../../session/remote.ts";
import { session } from "../../session/session.ts";
import { useSession } from "../../session/use-session.ts";
import { CodeStep } from "./CodeStep.tsx";
import style from "./Form.module.css";
import { Guests } from "./Guests.tsx";
import { journeyFailure } from "./journey.ts";
import { type Entered, PasswordStep } from "./PasswordStep.tsx";

/** F2: sign in, by password and second factor, or through another service; then back to the page that was asked for. */
export function Login() {
  useTitle("Sign in");
  const search = useSearch({ from: "/login" });
  const { status } = useSession();
  const { history } = useRouter();
  const navigate = useNavigate();
  const [entered, enter] = useState<Entered>();
  const next = safeNext(search.next);

  const isFromHere = useRef(false);
  const adopt = (token: string) => {
    isFromHere.current = true;
    session.adopt(token);
  };
  useEffect(() => {
    if (status !== "in") return;
    // Who is signed in already was connecting another service: what went wrong is told where that began.
    history.replace(search.error && !isFromHere.current ? `/dashboard/account/security?error=${encodeURIComponent(search.error)}` : next);
  }, [status, history, next, search.error]);

  const isFromJourney = search.second_factor === "1";
  const confirm = async (code: string) => {
    if (entered) adopt(await signIn({ ...entered, code }));
    else adopt(await finishJourney(code));
  };
  const back = () => {
    enter(undefined);
    if (isFromJourney) void navigate({ to: "/login", search: search.next ? { next: search.next } : {} });
  };

  return (
    <PublicPage narrow>
      <div className={style.card}>
        <div className={style.head}>
          <h1>Sign in</h1>
          <p>{next === "/dashboard" ? "Welcome back." : "Sign in to go on to the page that you asked for."}</p>
        </div>
        {search.error ? (
          <Notice kind="bad" title="That did not work">
            {journeyFailure(search.error)}
          </Notice>
        ) : null}
        {entered || isFromJourney ? (
          <CodeStep onCode={confirm} onBack={back} />
        ) : (
          <>
            <PasswordStep onSignedIn={adopt} onCodeWanted={enter} />
            <Guests next={next} />
          </>
        )}
        <p className={style.foot}>
          No account yet?{" "}
          <Link to="/register" search={search.next ? { next: search.next } : {}}>
            Create one
          </Link>
        </p>
      </div>
    </PublicPage>
  );
}

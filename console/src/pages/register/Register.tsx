import { Link, useRouter, useSearch } from "@tanstack/react-router";
import { useEffect } from "react";
import { PublicPage } from "../../components/PublicPage.tsx";
import { useTitle } from "../../components/title.ts";
import { safeNext } from "../../session/next.ts";
import { useSession } from "../../session/use-session.ts";
import style from "../login/Form.module.css";
import { Guests } from "../login/Guests.tsx";
import { RegisterForm } from "./RegisterForm.tsx";
import { Welcome } from "./Welcome.tsx";

/** F3: make an account, and be signed in with it. */
export function Register() {
  useTitle("Create account");
  const search = useSearch({ from: "/register" });
  const { status } = useSession();
  const { history } = useRouter();
  const next = safeNext(search.next);

  useEffect(() => {
    if (status === "in") history.replace(next);
  }, [status, history, next]);

  return (
    <PublicPage narrow>
      <div className={style.card}>
        <div className={style.head}>
          <h1>Create account</h1>
          <Welcome />
        </div>
        <RegisterForm />
        <Guests next={next} />
        <p className={style.foot}>
          Have an account?{" "}
          <Link to="/login" search={search.next ? { next: search.next } : {}}>
            Sign in
          </Link>
        </p>
      </div>
    </PublicPage>
  );
}

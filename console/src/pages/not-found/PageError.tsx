import { type ErrorComponentProps, useRouter } from "@tanstack/react-router";
import { asProblem } from "../../client/problem.ts";
import { Failure } from "../../components/Failure.tsx";
import style from "./PageError.module.css";

/** A page that cannot be shown: says why, in its place, and tries again. */
export function PageError({ error, reset }: ErrorComponentProps) {
  const router = useRouter();
  const isOld = /dynamically imported module|module script failed/i.test(String(error));
  const retry = () => {
    if (isOld) window.location.reload(); // the platform was updated: this page's files are gone
    reset();
    void router.invalidate();
  };
  return (
    <main id="main" className={style.place}>
      <h1 className="heard">This page cannot be shown</h1>
      <Failure problem={asProblem(error)} what={isOld ? "The console was updated" : "This page cannot be shown now"} onRetry={retry} />
    </main>
  );
}

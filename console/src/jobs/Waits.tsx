import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Spinner } from "../components/Spinner.tsx";
import { queries } from "../queries.ts";
import { spanText } from "./pace.ts";
import style from "./Waits.module.css";

const AGAIN_MS = 3_000;

/** That a job waits for a machine, how many go before it, and how long it is likely to take. */
export function Waits({ id }: { id: string }) {
  const job = useQuery({ ...queries.job(id), refetchInterval: AGAIN_MS });
  const wait = job.data?.wait;
  return (
    <div className={style.waits}>
      <p>
        <Spinner /> Waiting for a machine
      </p>
      <p className={style.more}>
        {wait ? `${wait.ahead === 0 ? "It is next" : `${wait.ahead} before it`}; about ${spanText(wait.estimated_s)} to go. ` : ""}
        You can leave this page: it runs on.{" "}
        <Link to="/dashboard/jobs/$id" params={{ id }} hash="why">
          Why does it wait?
        </Link>
      </p>
    </div>
  );
}

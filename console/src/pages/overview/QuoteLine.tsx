import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { asProblem } from "../../client/problem.ts";
import type { components } from "../../client/serve.d.ts";
import { spanText } from "../../jobs/pace.ts";
import type { DraftErrors } from "../../jobs/request.ts";
import { compare, credits } from "../../money.ts";
import { queries } from "../../queries.ts";
import style from "./QuoteLine.module.css";

type Quote = components["schemas"]["Quote"];

interface Props {
  quote: Quote | undefined;
  problem: unknown;
  /** What of the problem stands at fields already. */
  fields: DraftErrors;
  isAsked: boolean;
}

/** What a press would cost at most, and how long it would wait. Its line is always there. */
export function QuoteLine({ quote, problem, fields, isAsked }: Props) {
  const wallet = useQuery(queries.wallet);
  if (!isAsked) return <p className={style.line}>What you write is sent to one machine, without your name.</p>;
  if (problem && Object.keys(fields).length === 0) {
    return <p className={style.line}>The cost cannot be told now: {asProblem(problem).message} You can submit all the same.</p>;
  }
  if (!quote || problem) return <p className={style.line}>&nbsp;</p>;
  const isShort = wallet.data && compare(wallet.data.balance, quote.max_cost) < 0;
  return (
    <p className={style.line}>
      At most {credits(quote.max_cost)}, held until it ends. {waitText(quote.wait)}
      {isShort ? (
        <span className={style.short}>
          {" "}
          You have {credits(wallet.data.balance)}. <Link to="/dashboard/wallet">Add funds</Link>
        </span>
      ) : null}
    </p>
  );
}

function waitText(wait: Quote["wait"]): string {
  if (wait === null) return "No machine is free for it now: it waits for one, up to ten minutes, and else costs nothing.";
  if (wait.ahead === 0 && wait.estimated_s === 0) return "A machine is free now.";
  const ahead = wait.ahead === 1 ? "1 job goes" : `${wait.ahead} jobs go`;
  return `${ahead} before it: about ${spanText(wait.estimated_s)}.`;
}

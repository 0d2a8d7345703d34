import { useQuery } from "@tanstack/react-query";
import { Card } from "../../components/Card.tsx";
import { Figure } from "../../components/Figure.tsx";
import { Icon } from "../../components/Icon.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { Status } from "../../components/Status.tsx";
import { percent } from "../../words.ts";
import { provider, type WhyNoJobs } from "../provider/queries.ts";
import { Said } from "./Said.tsx";
import style from "./Work.module.css";

/** Whether jobs come, why not, and how those went that came. */
export function Work({ id }: { id: string }) {
  const why = useQuery(provider.why(id));
  return (
    <Card title="Jobs" aside={why.data ? <Takes said={why.data} /> : null}>
      <Loaded query={why} what="Why it gets no jobs cannot be read now" waits={<Skeleton height="12rem" />}>
        {(data) => (
          <div className={style.place}>
            <section aria-labelledby="why" className={style.why}>
              <h3 id="why">Do jobs come?</h3>
              <Reasons said={data} />
            </section>
            <section aria-labelledby="lately">
              <h3 id="lately">In the last 30 days</h3>
              <dl className={style.figures}>
                <Figure label="Jobs served" value={data.done.jobs.toLocaleString("en")} />
                <Figure
                  label="Success rate"
                  value={percent(data.done.success_rate)}
                  hint={`${data.done.broken.toLocaleString("en")} broke`}
                />
                <Figure label="Tokens written" value={data.done.completion_tokens.toLocaleString("en")} />
              </dl>
            </section>
          </div>
        )}
      </Loaded>
    </Card>
  );
}

function Takes({ said }: { said: WhyNoJobs }) {
  return <Status tone={said.takes_jobs ? "ok" : "warn"}>{said.takes_jobs ? "Takes jobs" : "Gets no jobs"}</Status>;
}

function Reasons({ said }: { said: WhyNoJobs }) {
  if (said.reasons.length > 0) {
    return (
      <ul className={style.reasons}>
        {said.reasons.map((reason) => (
          <li key={reason} className={style.against}>
            <Icon name="alert" size={18} />
            <Said text={reason} />
          </li>
        ))}
      </ul>
    );
  }
  const offered = said.models.filter((model) => model.offered).length;
  return (
    <ul className={style.reasons}>
      <li className={offered > 0 ? style.fine : style.against}>
        <Icon name={offered > 0 ? "check" : "alert"} size={18} />
        {offered > 0
          ? "Nothing stands in the way: jobs come when consumers ask for its models."
          : "None of its models can be offered now; each says why below."}
      </li>
    </ul>
  );
}

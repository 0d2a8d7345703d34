import { useInfiniteQuery } from "@tanstack/react-query";
import { Card } from "../../components/Card.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Figure } from "../../components/Figure.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { More } from "../../components/More.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { type Audits, type OwnNode, provider } from "../provider/queries.ts";
import { tierName } from "../provider/standing.ts";
import { AppealForm } from "./AppealForm.tsx";
import style from "./Checks.module.css";
import { Steps } from "./Steps.tsx";
import { Verdicts } from "./Verdicts.tsx";

const ALL = 100; // percent

/** What was checked, what was found, what followed, and how to object. */
export function Checks({ node }: { node: OwnNode }) {
  const audits = useInfiniteQuery(provider.audits(node.id));
  return (
    <Card title="Audits and strikes">
      <Loaded query={audits} what="The audits cannot be read now" waits={<Skeleton height="14rem" />}>
        {({ pages }) => {
          const [said] = pages;
          const verdicts = pages.flatMap((page) => page.results);
          return said === undefined ? null : (
            <div className={style.place}>
              <Standing said={said} />
              {said.steps.length > 0 ? <Steps steps={said.steps} /> : null}
              <AppealForm node={node} said={said} />
              <section aria-labelledby="verdicts">
                <h3 id="verdicts">Audited jobs</h3>
                {verdicts.length === 0 ? (
                  <Empty icon="shield" title="Nothing was audited yet">
                    {said.audit_percent === ALL ? "Each of its jobs is, for now." : `${said.audit_percent} of a hundred of its jobs are.`}{" "}
                    What is found stands here with its reason.
                  </Empty>
                ) : (
                  <Verdicts rows={verdicts} />
                )}
                <More query={audits} />
              </section>
            </div>
          );
        }}
      </Loaded>
    </Card>
  );
}

function Standing({ said }: { said: Audits }) {
  return (
    <div className={style.standing}>
      <dl className={style.figures}>
        <Figure label="Strikes" value={said.strikes} hint="in its last 100 judged audits" />
        <Figure label="Audited" value={said.audited.toLocaleString("en")} hint={`${said.audit_percent} % of its jobs`} />
        <Figure label="Paid jobs" value={said.jobs.toLocaleString("en")} hint={`tier: ${tierName(said.tier).toLowerCase()}`} />
        <Figure label="Miscounted" value={said.count_alarms} hint="of its last 100 jobs" />
      </dl>
      <p className={said.strikes > 0 || said.state === "quarantined" || said.state === "banned" ? style.warning : style.fine}>
        {said.what_next}
      </p>
    </div>
  );
}

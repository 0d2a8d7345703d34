import { Icon } from "../../components/Icon.tsx";
import { Time } from "../../components/Time.tsx";
import type { Audits } from "../provider/queries.ts";
import { sentence } from "../provider/standing.ts";
import style from "./Steps.module.css";
import { stepOf } from "./words.ts";

/** What followed for the machine, the newest first, each with its reason. */
export function Steps({ steps }: { steps: Audits["steps"] }) {
  return (
    <section aria-labelledby="steps">
      <h3 id="steps">What followed</h3>
      <ol className={style.steps}>
        {steps.map((step) => {
          const [icon, name] = stepOf(step.step);
          return (
            <li key={`${step.at} ${step.step}`}>
              <span className={style.icon}>
                <Icon name={icon} size={18} />
              </span>
              <div>
                <p className={style.head}>
                  <strong>{name}</strong>
                  <Time at={step.at} />
                </p>
                <p className={style.reason}>
                  {sentence(step.reason)}
                  {step.job_id ? (
                    <>
                      {" "}
                      Job <code>{step.job_id}</code>
                    </>
                  ) : null}
                </p>
              </div>
            </li>
          );
        })}
      </ol>
    </section>
  );
}

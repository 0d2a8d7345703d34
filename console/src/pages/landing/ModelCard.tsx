import { ButtonLink } from "../../components/Button.tsx";
import { Credits } from "../../components/Credits.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { Status } from "../../components/Status.tsx";
import type { Model } from "../../market/market.ts";
import { isZero } from "../../money.ts";
import { counted, listed } from "../../words.ts";
import style from "./ModelCard.module.css";

/** One model: who serves it, what it costs, and the way to use it, which remembers it through signing in. */
export function ModelCard({ model }: { model: Model }) {
  const { job, prompt_per_million: prompt, completion_per_million: completion } = model.price;
  return (
    <li className={style.card}>
      <div className={style.head}>
        <h3>{model.name}</h3>
        <Status tone={model.online ? "ok" : "none"}>{model.online ? counted(model.nodes, "node") : "No node now"}</Status>
      </div>
      <dl className={style.facts}>
        <div>
          <dt>Per job</dt>
          <dd>
            <Credits amount={job} />
          </dd>
        </div>
        {isZero(prompt) ? null : (
          <div>
            <dt>Million tokens in</dt>
            <dd>
              <Credits amount={prompt} />
            </dd>
          </div>
        )}
        {isZero(completion) ? null : (
          <div>
            <dt>Million tokens out</dt>
            <dd>
              <Credits amount={completion} />
            </dd>
          </div>
        )}
        <div>
          <dt>Served by</dt>
          <dd>{listed(model.providers) || "nobody at the moment"}</dd>
        </div>
      </dl>
      <ButtonLink to="/dashboard" search={{ model: model.name }} wide aria-label={`Use this model: ${model.name}`}>
        Use this model
      </ButtonLink>
    </li>
  );
}

/** Where a card will be. */
export function ModelCardWaits() {
  return (
    <li className={style.card} aria-hidden="true">
      <div className={style.head}>
        <Skeleton width="9rem" height="1.4rem" />
      </div>
      <Skeleton height="3.4rem" />
      <Skeleton height="2.75rem" />
    </li>
  );
}

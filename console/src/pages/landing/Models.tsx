import { ButtonAnchor } from "../../components/Button.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Failure } from "../../components/Failure.tsx";
import * as market from "../../market/market.ts";
import { inOrder } from "../../market/order.ts";
import { usePolled } from "../../market/polled.ts";
import { ModelCard, ModelCardWaits } from "./ModelCard.tsx";
import style from "./Models.module.css";
import { Section } from "./Section.tsx";

/** The models that are offered, live; those that can answer now come first. */
export function Models() {
  const { data, problem } = usePolled(market.models);
  const models = inOrder(data?.models ?? []);
  return (
    <Section
      id="models"
      title="On offer now"
      lead="Live from the market: which models have a machine that takes jobs, whose it is, and what they cost."
    >
      {!data && !problem ? (
        <ul className={style.models} aria-busy="true" aria-label="Models are being read">
          {["a", "b", "c"].map((key) => (
            <ModelCardWaits key={key} />
          ))}
        </ul>
      ) : problem && !data ? (
        <Failure problem={problem} what="The models cannot be read now" onRetry={market.models.again} />
      ) : models.length === 0 ? (
        <Empty icon="chip" title="No machine offers a model at the moment" action={<ButtonAnchor href="#share">Share yours</ButtonAnchor>}>
          Jobs can be submitted all the same: they wait for a while for a machine to come.
        </Empty>
      ) : (
        <ul className={style.models}>
          {models.map((model) => (
            <ModelCard key={model.name} model={model} />
          ))}
        </ul>
      )}
    </Section>
  );
}

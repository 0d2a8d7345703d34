import { useQuery } from "@tanstack/react-query";
import { useId, useState } from "react";
import { answer } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import { Credits } from "../../../components/Credits.tsx";
import { Field } from "../../../components/Field.tsx";
import { keys as market, queries } from "../../../queries.ts";
import style from "../admin.module.css";
import { ChangeButton } from "../change/ChangeButton.tsx";
import { EVERY_OTHER, type Price } from "./price.ts";
import { priceAsked, type Typed } from "./typed-price.ts";

interface Props {
  /** Of which model; null: of every model without a price of its own; undefined: it is asked for. */
  model?: string | null;
  /** What it is now; the fields begin with it. */
  price: Price;
}

/** Sets a price. Holds that are open keep the price that they were made with. */
export function PriceButton({ model, price }: Props) {
  const [name, setName] = useState("");
  const [asked, setAsked] = useState<Typed>(price);
  const models = useQuery(queries.models);
  const list = useId();
  const type = (field: keyof Typed) => ({
    value: asked[field],
    onChange: (event: { target: { value: string } }) => setAsked({ ...asked, [field]: event.target.value }),
    inputMode: "decimal" as const,
    autoComplete: "off",
    required: true,
  });
  const what = model === undefined ? name.trim() : (model ?? EVERY_OTHER);
  return (
    <ChangeButton
      label={model === undefined ? "Set a price" : "Change"}
      {...(model === undefined ? { look: "gold" as const } : { about: `the price of ${what}` })}
      title={model === undefined ? "Set the price of a model" : `Price of ${what}`}
      action="Set this price"
      fields={["model", "job", "prompt_per_million", "completion_per_million"]}
      stale={[market.prices, market.models]}
      onOpen={() => setAsked(price)}
      change={async ({ headers }) => {
        const body = priceAsked(model === undefined ? name : model, asked);
        const made = await answer(ledger.POST("/api/admin/prices/", { body, headers }));
        return {
          title: `Version ${made.version} is the price of ${body.model ?? EVERY_OTHER}`,
          text: (
            <>
              <Credits amount={made.job} /> per job, from the next hold on.
            </>
          ),
        };
      }}
    >
      {(problem) => (
        <div className={style.fields}>
          {model === undefined ? (
            <>
              <Field
                label="Model"
                data-autofocus
                hint="As lists write it, e.g. with its tag."
                list={list}
                value={name}
                onChange={(event) => setName(event.target.value)}
                error={problem?.field("model")}
                autoComplete="off"
                spellCheck={false}
                required
              />
              <datalist id={list}>
                {models.data?.models.map((one) => (
                  <option key={one.name} value={one.name} />
                ))}
              </datalist>
            </>
          ) : null}
          <Field label="Credits per job" data-autofocus={model !== undefined || undefined} error={problem?.field("job")} {...type("job")} />
          <Field label="Per million tokens of the prompt" error={problem?.field("prompt_per_million")} {...type("prompt_per_million")} />
          <Field
            label="Per million tokens of the answer"
            error={problem?.field("completion_per_million")}
            {...type("completion_per_million")}
          />
          <p className={style.said}>Everybody sees it within seconds. Jobs that are under way keep the price they were held with.</p>
        </div>
      )}
    </ChangeButton>
  );
}

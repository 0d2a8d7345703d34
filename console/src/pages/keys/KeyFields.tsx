import { TagsInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { choice } from "../../components/choice.ts";
import { Field } from "../../components/Field.tsx";
import { queries } from "../../queries.ts";
import { BUDGETS, type Budget, type Draft, dayOf, type Wrong } from "./draft.ts";
import style from "./KeyFields.module.css";

const LONGEST = 100; // of a name, of the API
const BUDGET_NAMES: Record<Budget, string> = {
  budget_day: "Credits a day",
  budget_month: "Credits a month",
  budget_total: "Credits in all",
};

interface Props {
  draft: Draft;
  wrong: Wrong;
  onChange: (changes: Partial<Draft>) => void;
}

/** A key's name. */
export function NameField({ draft, wrong, onChange }: Props) {
  return (
    <Field
      label="Name"
      name="key-name"
      autoComplete="off"
      required
      maxLength={LONGEST}
      data-autofocus
      value={draft.name}
      error={wrong.name}
      hint="Where it is used: laptop, web shop, tests."
      onChange={(event) => onChange({ name: event.target.value })}
    />
  );
}

/** What a key may use up, for how long, and for what. Nothing typed: no limit. */
export function LimitFields({ draft, wrong, onChange }: Props) {
  const models = useQuery(queries.models);
  return (
    <fieldset className={style.limits}>
      <legend>Limits</legend>
      <div className={style.budgets}>
        {BUDGETS.map((budget) => (
          <Field
            key={budget}
            label={BUDGET_NAMES[budget]}
            inputMode="decimal"
            autoComplete="off"
            value={draft[budget]}
            error={wrong[budget]}
            onChange={(event) => onChange({ [budget]: event.target.value })}
          />
        ))}
      </div>
      <div className={style.pair}>
        <Field
          label="Jobs a minute"
          inputMode="numeric"
          autoComplete="off"
          value={draft.per_minute}
          error={wrong.per_minute}
          onChange={(event) => onChange({ per_minute: event.target.value })}
        />
        <Field
          label="Last day"
          type="date"
          min={dayOf(new Date())}
          value={draft.lastDay}
          error={wrong.lastDay}
          onChange={(event) => onChange({ lastDay: event.target.value })}
        />
      </div>
      <TagsInput
        {...choice}
        label="Models (optional)"
        placeholder={draft.models.length > 0 ? "" : "All models"}
        data={models.data?.models.map((model) => model.name) ?? []}
        value={[...draft.models]}
        error={wrong.models}
        onChange={(names) => onChange({ models: names })}
        clearable
        clearButtonProps={{ "aria-label": "All models" }}
      />
      <label className={style.check}>
        <input type="checkbox" checked={draft.isTrusted} onChange={(event) => onChange({ isTrusted: event.target.checked })} />
        <span>
          <strong>Trusted machines only</strong>
          <small>Its jobs run on machines of who runs this platform, never on those of other people.</small>
        </span>
      </label>
    </fieldset>
  );
}

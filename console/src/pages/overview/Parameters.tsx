import { Field } from "../../components/Field.tsx";
import { Icon } from "../../components/Icon.tsx";
import { TextArea } from "../../components/TextArea.tsx";
import type { Draft } from "../../jobs/desk.ts";
import type { DraftErrors } from "../../jobs/request.ts";
import style from "./Parameters.module.css";

interface Props {
  draft: Draft;
  errors: DraftErrors;
  onEdit: (change: Partial<Draft>) => void;
}

/** What most leave as it is, out of the way until it is wanted; it stays open where something is set or wrong. */
export function Parameters({ draft, errors, onEdit }: Props) {
  const set = [draft.system, draft.maxTokens, draft.temperature, draft.topP, draft.seed, draft.stop].filter(
    (text) => text.trim() !== "",
  ).length;
  const number = (field: "maxTokens" | "temperature" | "topP" | "seed", label: string, hint: string) => (
    <Field
      label={label}
      inputMode="decimal"
      autoComplete="off"
      value={draft[field]}
      onChange={(event) => onEdit({ [field]: event.target.value })}
      hint={hint}
      error={errors[field]}
    />
  );
  return (
    <details className={style.parameters} open={set > 0 || undefined}>
      <summary>
        <Icon name="arrow" size={16} />
        System prompt and parameters
        {set > 0 ? <span className={style.set}>{set} set</span> : null}
      </summary>
      <div className={style.inside}>
        <TextArea
          label="System prompt"
          rows={3}
          value={draft.system}
          onChange={(event) => onEdit({ system: event.target.value })}
          error={errors.system}
          hint="What the model is told first: its role, its manner."
        />
        <div className={style.numbers}>
          {number("maxTokens", "Longest answer", "In tokens; usually 1,024.")}
          {number("temperature", "Temperature", "0 to 2: how freely it chooses.")}
          {number("topP", "Top p", "0 to 1: how many words it chooses from.")}
          {number("seed", "Seed", "The same seed, the same answer.")}
        </div>
        <TextArea
          label="Stop at"
          rows={2}
          value={draft.stop}
          onChange={(event) => onEdit({ stop: event.target.value })}
          error={errors.stop}
          hint="The answer ends before any of these; one per line."
        />
      </div>
    </details>
  );
}

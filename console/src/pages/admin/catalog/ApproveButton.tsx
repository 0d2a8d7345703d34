import { useState } from "react";
import { answer } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import { Field } from "../../../components/Field.tsx";
import { keys as market } from "../../../queries.ts";
import style from "../admin.module.css";
import { ChangeButton } from "../change/ChangeButton.tsx";
import { keys } from "../queries.ts";
import { modelAsked, type TypedModel } from "./typed-model.ts";

interface Props {
  /** What is known already. */
  model?: Partial<TypedModel>;
  label: string;
}

const NOTHING: TypedModel = { name: "", digest: "", source: "", license: "", size_bytes: "", context_tokens: "" };
const FIELDS = [
  { name: "name", label: "Model", hint: "As Ollama writes it; the tag `latest` is added where none is." },
  { name: "digest", label: "Digest", hint: "SHA-256 of its GGUF file: 64 letters of 0-9 and a-f." },
  { name: "source", label: "Source", hint: "Where it comes from." },
  { name: "license", label: "License", hint: undefined },
  { name: "size_bytes", label: "Size in bytes", hint: undefined },
  { name: "context_tokens", label: "Context in tokens", hint: "What one job should have." },
] as const;

/** Takes a model into the catalog, or in place of what its name meant before. */
export function ApproveButton({ model, label }: Props) {
  const [text, setText] = useState<TypedModel>({ ...NOTHING, ...model });
  return (
    <ChangeButton
      label={label}
      {...(model?.name ? { about: model.name } : { look: "gold" as const })}
      title={model?.name ? `Approve ${model.name}` : "Approve a model"}
      action="Approve"
      fields={FIELDS.map((field) => field.name)}
      stale={[keys.catalog, market.models]}
      change={async ({ headers }) => {
        const made = await answer(ledger.POST("/api/admin/catalog/", { body: modelAsked(text), headers }));
        if (!model?.name) setText(NOTHING);
        return { title: `${made.name} may be offered`, text: "With exactly these weights." };
      }}
    >
      {(problem) => (
        <div className={style.fields}>
          {FIELDS.map(({ name, label: said, hint }) => (
            <Field
              key={name}
              label={said}
              data-autofocus={name === (model?.name ? "source" : "name") || undefined}
              hint={hint}
              value={text[name]}
              onChange={(event) => setText({ ...text, [name]: event.target.value })}
              error={problem?.field(name)}
              autoComplete="off"
              spellCheck={false}
              required
            />
          ))}
        </div>
      )}
    </ChangeButton>
  );
}

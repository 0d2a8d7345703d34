import { useMutation } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { answer } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import { asProblem } from "../../client/problem.ts";
import { Button } from "../../components/Button.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Field } from "../../components/Field.tsx";
import type { MadeAgentToken, OwnNode } from "../provider/queries.ts";
import style from "./LabelStep.module.css";

const LONGEST = 100; // of the API

interface Props {
  /** A machine that comes back, and keeps its name. */
  node: OwnNode | undefined;
  made: MadeAgentToken | undefined;
  onMade: (made: MadeAgentToken) => void;
}

/** Step 1: what the machine is called, and the wish for a code. */
export function LabelStep({ node, made, onMade }: Props) {
  const [label, setLabel] = useState("");
  const make = useMutation({
    mutationFn: () =>
      answer(ledger.POST("/api/core/agent-token/generate/", { body: { label: node?.name ?? label.trim(), node_id: node?.id ?? null } })),
    onSuccess: onMade,
  });
  if (made) return <p className={style.done}>{made.label ? `It is called “${made.label}”.` : "It gets the name that its agent tells."}</p>;
  const problem = make.error ? asProblem(make.error) : undefined;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    make.mutate();
  };
  return (
    <form className={style.form} onSubmit={submit}>
      {node ? (
        <p className={style.done}>The machine gets a new key, and keeps its name, its tier and its history.</p>
      ) : (
        <Field
          label="Label"
          maxLength={LONGEST}
          placeholder="attic"
          value={label}
          autoComplete="off"
          error={problem?.field("label")}
          onChange={(event) => setLabel(event.target.value)}
          hint="A name by which you know it. You can change it at any time."
        />
      )}
      {problem && !problem.field("label") ? <Failure problem={problem} what="No code was made" /> : null}
      <div>
        <Button type="submit" look="gold" busy={make.isPending}>
          Make a code
        </Button>
      </div>
    </form>
  );
}

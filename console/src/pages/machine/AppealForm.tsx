import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { answer } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import { asProblem } from "../../client/problem.ts";
import { Button } from "../../components/Button.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Status } from "../../components/Status.tsx";
import { TextArea } from "../../components/TextArea.tsx";
import { Time } from "../../components/Time.tsx";
import { type Appeal, type Audits, type OwnNode, provider } from "../provider/queries.ts";
import style from "./AppealForm.module.css";
import { appealOf, mayAppeal } from "./words.ts";

const [SHORTEST, LONGEST] = [10, 2000]; // characters, of the API

/** To object to what was found: the last objection with its answer, and the way to make one. Nothing where there is nothing to object to. */
export function AppealForm({ node, said }: { node: OwnNode; said: Audits }) {
  const isOpen = mayAppeal(said, node.admissions);
  if (!said.appeal && !isOpen) return null;
  return (
    <section aria-labelledby="appeal" className={style.place}>
      <h3 id="appeal">Your objection</h3>
      <div className={style.parts}>
        {said.appeal ? <Answered appeal={said.appeal} /> : null}
        {isOpen ? <Form id={node.id} isFirst={said.appeal === null} /> : null}
      </div>
    </section>
  );
}

function Answered({ appeal }: { appeal: Appeal }) {
  const [tone, word] = appealOf(appeal.state);
  return (
    <div className={style.appeal}>
      <div className={style.head}>
        <Status tone={tone}>{word}</Status>
        <Time at={appeal.decided_at ?? appeal.created_at} />
      </div>
      <blockquote>{appeal.note}</blockquote>
      {appeal.answer ? (
        <p>
          <strong>The operator:</strong> {appeal.answer}
        </p>
      ) : null}
    </div>
  );
}

function Form({ id, isFirst }: { id: string; isFirst: boolean }) {
  const queries = useQueryClient();
  const [note, setNote] = useState("");
  const [isTried, setTried] = useState(false);
  const file = useMutation({
    mutationFn: () =>
      answer(ledger.POST("/api/core/nodes/{node_id}/appeal/", { params: { path: { node_id: id } }, body: { note: note.trim() } })),
    onSuccess: () => queries.invalidateQueries({ queryKey: provider.audits(id).queryKey }),
  });
  const problem = file.error ? asProblem(file.error) : undefined;
  const isShort = note.trim().length < SHORTEST;
  const wrong = (isTried && isShort ? `Write at least ${SHORTEST} characters.` : undefined) ?? problem?.field("note");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (!isShort) file.mutate();
  };
  return (
    <form className={style.form} onSubmit={submit} noValidate>
      <TextArea
        label={isFirst ? "Why are the findings wrong?" : "Is there something new to say?"}
        required
        rows={4}
        maxLength={LONGEST}
        value={note}
        error={wrong}
        onChange={(event) => setNote(event.target.value)}
        hint="An operator reads it, decides, and answers here. One objection of a machine is open at a time."
        counter={`${note.length} of ${LONGEST}`}
      />
      {problem && !problem.field("note") ? <Failure problem={problem} what="The objection was not taken" /> : null}
      <div>
        <Button type="submit" busy={file.isPending}>
          Object
        </Button>
      </div>
    </form>
  );
}

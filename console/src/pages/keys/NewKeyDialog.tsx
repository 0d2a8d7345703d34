import { Modal } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { answer } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import { asProblem } from "../../client/problem.ts";
import { Button } from "../../components/Button.tsx";
import { Failure } from "../../components/Failure.tsx";
import { keys } from "../../queries.ts";
import { type Draft, EMPTY, newKey, wrongWith } from "./draft.ts";
import { LimitFields, NameField } from "./KeyFields.tsx";
import { MadeKey } from "./MadeKey.tsx";
import style from "./NewKeyDialog.module.css";
import { refusalsOf } from "./refusals.ts";
import { ScopeFields } from "./ScopeFields.tsx";

/** Makes a key, then shows it, this once. */
export function NewKeyDialog({ onClose }: { onClose: () => void }) {
  const [draft, setDraft] = useState<Draft>(EMPTY);
  const [isTried, setTried] = useState(false);
  const queries = useQueryClient();
  const make = useMutation({
    mutationFn: () => answer(ledger.POST("/api/core/keys/", { body: newKey(draft) })),
    onSuccess: () => void queries.invalidateQueries({ queryKey: keys.apiKeys }),
  });
  const problem = make.error ? asProblem(make.error) : undefined;
  const { wrong: refused, rest } = refusalsOf(problem);
  const wrong = { ...refused, ...(isTried ? wrongWith(draft) : {}) };
  const change = (changes: Partial<Draft>) => {
    setDraft({ ...draft, ...changes });
    make.reset();
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (Object.keys(wrongWith(draft)).length === 0) make.mutate();
  };
  const fields = { draft, wrong, onChange: change };
  return (
    <Modal
      opened
      onClose={onClose}
      title={make.data ? "Your new key" : "New API key"}
      size="lg"
      closeOnClickOutside={false}
      closeButtonProps={{ "aria-label": "Close" }}
      classNames={{ title: style.title ?? "" }}
    >
      {make.data ? (
        <MadeKey made={make.data} onClose={onClose} />
      ) : (
        <form className={style.form} onSubmit={submit} noValidate>
          <NameField {...fields} />
          <ScopeFields scopes={draft.scopes} error={wrong.scopes} onChange={(scopes) => change({ scopes })} />
          <LimitFields {...fields} />
          {rest ? <Failure problem={rest} what="The key was not made" /> : null}
          <div className={style.buttons}>
            <Button onClick={onClose}>Cancel</Button>
            <Button type="submit" look="gold" busy={make.isPending}>
              Make the key
            </Button>
          </div>
        </form>
      )}
    </Modal>
  );
}

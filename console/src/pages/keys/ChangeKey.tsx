import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { answer } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import { asProblem } from "../../client/problem.ts";
import { Confirm } from "../../components/Confirm.tsx";
import { keys } from "../../queries.ts";
import type { Key } from "../account/queries.ts";
import { changeOf, type Draft, draftOf, wrongWith } from "./draft.ts";
import { LimitFields, NameField } from "./KeyFields.tsx";
import { refusalsOf } from "./refusals.ts";

/** Another name, other limits. What it may do stays as it was made. */
export function ChangeKey({ of: key, onClose }: { of: Key; onClose: () => void }) {
  const [draft, setDraft] = useState<Draft>(() => draftOf(key));
  const [isTried, setTried] = useState(false);
  const queries = useQueryClient();
  const change = useMutation({
    mutationFn: async () => {
      const body = changeOf(draft, key);
      if (body) await answer(ledger.PATCH("/api/core/keys/{key_id}/", { params: { path: { key_id: key.id } }, body }));
    },
    onSuccess: () => {
      void queries.invalidateQueries({ queryKey: keys.apiKeys });
      onClose();
    },
  });
  const { wrong: refused, rest } = refusalsOf(change.error ? asProblem(change.error) : undefined);
  const wrong = { ...refused, ...(isTried ? wrongWith(draft) : {}) };
  const write = (changes: Partial<Draft>) => {
    setDraft({ ...draft, ...changes });
    change.reset();
  };
  const confirm = () => {
    setTried(true);
    if (Object.keys(wrongWith(draft)).length === 0) change.mutate();
  };
  const fields = { draft, wrong, onChange: write };
  return (
    <Confirm isOpen onClose={onClose} title={`Edit ${key.name}`} action="Save" busy={change.isPending} problem={rest} onConfirm={confirm}>
      <NameField {...fields} />
      <LimitFields {...fields} />
      <p>What its budgets have spent stays spent. What it may do cannot be changed: make another key for that.</p>
    </Confirm>
  );
}

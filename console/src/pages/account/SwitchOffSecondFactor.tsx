import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { done } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import { asProblem } from "../../client/problem.ts";
import { CodeField } from "../../components/CodeField.tsx";
import { Confirm } from "../../components/Confirm.tsx";

/** Asks for the digits a last time. */
export function SwitchOffSecondFactor({ onClose, onDone }: { onClose: () => void; onDone: () => void }) {
  const [code, setCode] = useState("");
  const remove = useMutation({
    mutationFn: () => done(ledger.POST("/api/core/totp/remove/", { body: { code } })),
    onSuccess: onDone,
    onError: () => setCode(""),
  });
  const problem = remove.error ? asProblem(remove.error) : undefined;
  const isWrong = problem?.code === "totp_required";
  return (
    <Confirm
      isOpen
      isGrave
      onClose={onClose}
      title="Switch the second factor off?"
      action="Switch off"
      busy={remove.isPending}
      problem={isWrong ? undefined : problem}
      onConfirm={() => remove.mutate()}
    >
      <p>Your password alone then signs in and withdraws. To switch it on again you set it up anew.</p>
      <CodeField
        value={code}
        onChange={setCode}
        error={isWrong ? "These digits do not fit, or were used already. Wait for the next ones." : undefined}
      />
    </Confirm>
  );
}

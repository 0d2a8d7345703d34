import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { answer, done } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import { Once } from "../../client/once.ts";
import { asProblem, Problem } from "../../client/problem.ts";
import { CodeField } from "../../components/CodeField.tsx";
import { Confirm } from "../../components/Confirm.tsx";
import { Credits } from "../../components/Credits.tsx";
import { credits } from "../../money.ts";
import { keys } from "../../queries.ts";
import type { Transaction } from "./queries.ts";

export interface Payout {
  amount: string;
  destination: string;
}

interface Props {
  payout: Payout;
  onClose: () => void;
  onDone: (made: Transaction) => void;
}

/** Asks before money leaves; and for the second factor, where the account has one that was not given just now. */
export function WithdrawDialog({ payout, onClose, onDone }: Props) {
  const [isCodeWanted, wantCode] = useState(false);
  const [code, setCode] = useState("");
  const once = useRef(new Once());
  const queries = useQueryClient();

  const withdraw = useMutation({
    mutationFn: async () => {
      if (isCodeWanted) await done(ledger.POST("/api/core/totp/fresh/", { body: { code } }));
      return once.current.send(payout, (header) => answer(ledger.POST("/api/payments/withdraw/", { body: payout, params: { header } })));
    },
    onSuccess: (made) => {
      for (const queryKey of [keys.wallet, keys.profile, keys.earnings]) void queries.invalidateQueries({ queryKey });
      onDone(made);
    },
    onError: (thrown) => {
      setCode("");
      if (asProblem(thrown).code === "not_fresh") wantCode(true);
    },
  });
  const problem = withdraw.error ? asProblem(withdraw.error) : undefined;
  const isAboutCode = problem?.code === "not_fresh" || problem?.code === "totp_required";

  return (
    <Confirm
      isOpen
      onClose={onClose}
      title={`Withdraw ${credits(payout.amount)}?`}
      action="Withdraw"
      busy={withdraw.isPending}
      problem={isAboutCode ? undefined : problem && inWords(problem)}
      onConfirm={() => withdraw.mutate()}
    >
      <p>
        To <strong>{payout.destination}</strong>. Look twice: nobody can bring back what was paid out.
      </p>
      <p>
        <Credits amount={payout.amount} /> leave your earnings at once. An operator pays them out by hand. If it is refused, they come back.
      </p>
      {isCodeWanted ? (
        <CodeField
          value={code}
          onChange={setCode}
          error={problem?.code === "totp_required" ? "These digits do not fit, or were used already. Wait for the next ones." : undefined}
          hint="Your account has a second factor. Money leaves only with it."
        />
      ) : null}
    </Confirm>
  );
}

/** A refusal for lack of money, with how much there is. */
function inWords(problem: Problem): Problem {
  const available = (problem.body as { available?: unknown } | undefined)?.available;
  if (problem.code !== "insufficient_funds" || typeof available !== "string") return problem;
  return new Problem(problem.status, { title: problem.title, detail: `Only ${credits(available)} can be withdrawn now.` });
}

import { useState } from "react";
import { answer } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import type { Problem } from "../../../client/problem.ts";
import { Credits } from "../../../components/Credits.tsx";
import { Field } from "../../../components/Field.tsx";
import { Segments } from "../../../components/Segments.tsx";
import { keys as market } from "../../../queries.ts";
import style from "../admin.module.css";
import { ChangeButton } from "../change/ChangeButton.tsx";
import type { Outcome } from "../change/Done.tsx";
import { keys, type Person } from "../queries.ts";
import { findPerson } from "./find-person.ts";
import { type Direction, POCKETS, type Pocket, signed } from "./pockets.ts";

interface Props {
  /** Whose; undefined: it is asked for. */
  person?: Person;
}

/** Gives somebody credits, or takes some: a correction between `platform:goodwill` and one of their pockets. */
export function CorrectionButton({ person }: Props) {
  const [name, setName] = useState("");
  const [amount, setAmount] = useState("");
  const [direction, setDirection] = useState<Direction>("give");
  const [pocket, setPocket] = useState<Pocket>("promo");
  const forget = () => {
    setName("");
    setAmount("");
  };
  return (
    <ChangeButton
      label="Correct credits"
      {...(person ? { about: `of ${person.username}` } : { look: "gold" as const })}
      title={person ? `Correct credits of ${person.username}` : "Correct somebody's credits"}
      action={direction === "give" ? "Give credits" : "Take credits"}
      isGrave={direction === "take"}
      reason="Reason"
      reasonHint="Kept in the audit log and with the correction."
      fields={["user", "amount"]}
      once
      stale={[keys.corrections, keys.users, market.wallet]}
      change={async ({ reason, headers }) => {
        const change = signed(amount, direction);
        const whose = person ?? (await findPerson(name));
        const body = { user: whose.id, amount: change, reason, pocket };
        const made = await answer(ledger.POST("/api/admin/corrections/", { body, headers }));
        forget();
        return outcomeOf(made.state, made.amount, whose.username);
      }}
    >
      {(problem: Problem | undefined) => (
        <div className={style.fields}>
          {person ? null : (
            <Field
              label="Username"
              data-autofocus
              value={name}
              onChange={(event) => setName(event.target.value)}
              error={problem?.field("user")}
              autoComplete="off"
              spellCheck={false}
              required
            />
          )}
          <Segments
            label="Direction"
            value={direction}
            onChoose={setDirection}
            options={[
              { value: "give", name: "Give" },
              { value: "take", name: "Take" },
            ]}
          />
          <Field
            label="Amount"
            data-autofocus={person !== undefined || undefined}
            hint="In credits. Large amounts wait for a second operator."
            inputMode="decimal"
            value={amount}
            onChange={(event) => setAmount(event.target.value)}
            error={problem?.field("amount")}
            autoComplete="off"
            required
          />
          <div className={style.choice}>
            <span aria-hidden="true">Pocket</span>
            <Segments label="Pocket" value={pocket} onChoose={setPocket} options={POCKETS} />
          </div>
        </div>
      )}
    </ChangeButton>
  );
}

function outcomeOf(state: string, amount: string, username: string): Outcome {
  const what = (
    <>
      <Credits amount={amount} signed /> for {username}.
    </>
  );
  return state === "POSTED"
    ? { title: "Posted", text: what }
    : { title: "Proposed", text: <>{what} It is large: a second operator has to approve it.</> };
}

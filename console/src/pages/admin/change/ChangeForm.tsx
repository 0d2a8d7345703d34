import { useMutation } from "@tanstack/react-query";
import { type FormEvent, type ReactNode, useState } from "react";
import { done as completed } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import { asProblem, type Problem } from "../../../client/problem.ts";
import { Button } from "../../../components/Button.tsx";
import { Field } from "../../../components/Field.tsx";
import style from "./ChangeForm.module.css";
import { ChangeProblem } from "./ChangeProblem.tsx";
import { Done, type Outcome } from "./Done.tsx";
import { newRequestId } from "./request-id.ts";
import { isEndUnknown } from "./unknown-end.ts";

export interface Asked {
  /** Why; empty where the API wants no reason. */
  reason: string;
  /** Goes with the call, so that its line in the audit log is found. */
  headers: { "X-Request-Id": string };
}

export interface Change {
  /** What will happen; or the fields to fill in, which learn what was wrong with them the last time. */
  children: ReactNode | ((problem: Problem | undefined) => ReactNode);
  /** The word on the button that does it. */
  action: string;
  /** It takes something from somebody, or cannot be undone. */
  isGrave?: boolean;
  /** Label of the reason, where the API wants one. */
  reason?: string;
  reasonHint?: string;
  /** Names of further fields, which show themselves what is wrong with them; the first has `data-autofocus`. */
  fields?: readonly string[];
  /** The job APIs keep no audit log. */
  isLogged?: boolean;
  /** Done twice it would count twice: it is not sent again where nobody knows whether it took effect. */
  once?: boolean;
  change: (asked: Asked) => Promise<Outcome>;
}

interface Props extends Change {
  onClose: () => void;
  onBusy: (isBusy: boolean) => void;
}

const MOST_REASON = 500;

/** Says what will happen, asks why, does it, and shows what the audit log keeps of it. */
export function ChangeForm({ onClose, onBusy, ...asked }: Props) {
  const { children, action, isGrave = false, reason, reasonHint, fields = [], isLogged = true, once = false, change } = asked;
  const [requestId] = useState(newRequestId); // the same for a repeated try: its lines belong together
  const [why, setWhy] = useState("");
  const [code, setCode] = useState("");
  const [wantsCode, setWantsCode] = useState(false);
  const doing = useMutation({
    mutationFn: async () => {
      if (wantsCode) await completed(ledger.POST("/api/core/totp/fresh/", { body: { code: code.trim() } }));
      return change({ reason: why.trim(), headers: { "X-Request-Id": requestId } });
    },
    onMutate: () => onBusy(true),
    onError: (thrown) => asProblem(thrown).code === "not_fresh" && setWantsCode(true),
    onSettled: () => onBusy(false),
  });
  if (doing.data) return <Done outcome={doing.data} requestId={isLogged ? requestId : undefined} onClose={onClose} />;

  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!doing.isPending) doing.mutate();
  };
  const problem = doing.error ? asProblem(doing.error) : undefined;
  const isUnknown = once && isEndUnknown(problem);
  return (
    <form className={style.form} onSubmit={submit} noValidate>
      <div className={style.text}>{typeof children === "function" ? children(problem) : children}</div>
      {reason ? (
        <Field
          label={reason}
          data-autofocus={fields.length === 0 || undefined}
          hint={reasonHint ?? "Kept in the audit log."}
          value={why}
          onChange={(event) => setWhy(event.target.value)}
          error={problem?.field("reason")}
          maxLength={MOST_REASON}
          autoComplete="off"
          required
        />
      ) : null}
      {wantsCode ? (
        <Field
          label="Six digits of your authenticator"
          inputMode="numeric"
          autoComplete="one-time-code"
          value={code}
          onChange={(event) => setCode(event.target.value)}
          error={problem?.field("code")}
          required
        />
      ) : null}
      {problem ? (
        <ChangeProblem problem={problem} atFields={["reason", "code", ...fields]} unknown={isUnknown ? requestId : undefined} />
      ) : null}
      <div className={style.buttons}>
        <Button onClick={onClose} disabled={doing.isPending}>
          Cancel
        </Button>
        <Button type="submit" look={isGrave ? "bad" : "gold"} busy={doing.isPending} disabled={isUnknown}>
          {action}
        </Button>
      </div>
    </form>
  );
}

import { useMutation } from "@tanstack/react-query";
import { type FormEvent, lazy, Suspense, useEffect, useRef, useState } from "react";
import { done } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import type { components } from "../../client/ledger.d.ts";
import { asProblem } from "../../client/problem.ts";
import { Button } from "../../components/Button.tsx";
import { CodeField } from "../../components/CodeField.tsx";
import { Command } from "../../components/Command.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import style from "./SetUpSecondFactor.module.css";

const Qr = lazy(() => import("./Qr.tsx").then((module) => ({ default: module.Qr })));

interface Props {
  begun: components["schemas"]["TotpBegun"];
  onDone: () => void;
  onCancel: () => void;
}

/** Scan or type the secret, then prove it with the first digits. */
export function SetUpSecondFactor({ begun, onDone, onCancel }: Props) {
  const [code, setCode] = useState("");
  const place = useRef<HTMLFormElement>(null);
  useEffect(() => place.current?.focus(), []); // the button that led here is gone
  const confirm = useMutation({
    mutationFn: () => done(ledger.POST("/api/core/totp/confirm/", { body: { code } })),
    onSuccess: onDone,
    onError: () => setCode(""),
  });
  const problem = confirm.error ? asProblem(confirm.error) : undefined;
  const isWrong = problem?.code === "totp_required";
  const submit = (event: FormEvent) => {
    event.preventDefault();
    confirm.mutate();
  };
  return (
    <form ref={place} tabIndex={-1} aria-label="Set up the second factor" className={style.steps} onSubmit={submit}>
      <ol>
        <li>
          <p>Scan this with an authenticator, for instance Aegis, 1Password or Google Authenticator.</p>
          <Suspense fallback={<Skeleton width="13rem" height="13rem" />}>
            <Qr text={begun.otpauth_url} />
          </Suspense>
          <p>
            On this device? <a href={begun.otpauth_url}>Open your authenticator</a>, or type this secret into it:
          </p>
          <Command text={grouped(begun.secret)} what="secret" />
        </li>
        <li>
          <p>Then type the six digits that it shows.</p>
          <CodeField
            value={code}
            onChange={setCode}
            autoFocus={false}
            error={isWrong ? "These digits do not fit. Look at the clock of your device, and wait for the next ones." : undefined}
          />
        </li>
      </ol>
      {problem && !isWrong ? <Failure problem={problem} what="The second factor was not switched on" /> : null}
      <div className={style.buttons}>
        <Button type="submit" look="gold" busy={confirm.isPending}>
          Switch on
        </Button>
        <Button look="quiet" onClick={onCancel}>
          Cancel
        </Button>
      </div>
    </form>
  );
}

/** In fours, as it is typed most easily; authenticators take it with its spaces. */
function grouped(secret: string): string {
  return secret.replace(/(.{4})(?=.)/g, "$1 ");
}

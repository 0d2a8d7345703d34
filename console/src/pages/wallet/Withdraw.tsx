import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useRef, useState } from "react";
import { Button, ButtonLink } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Credits } from "../../components/Credits.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Field } from "../../components/Field.tsx";
import { Icon } from "../../components/Icon.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Notice } from "../../components/Notice.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import { isZero, typed } from "../../money.ts";
import { queries } from "../../queries.ts";
import { boundsOf, wrongWith } from "./amount.ts";
import type { Transaction } from "./queries.ts";
import { WhatCanBeWithdrawn } from "./WhatCanBeWithdrawn.tsx";
import style from "./Withdraw.module.css";
import { type Payout, WithdrawDialog } from "./WithdrawDialog.tsx";

const LONGEST = 200; // characters of a destination that the API takes

/** Money goes out: earnings that were released. */
export function Withdraw() {
  const wallet = useQuery(queries.wallet);
  const [last, setLast] = useState<Transaction>();
  return (
    <Card title="Withdraw">
      <div className={style.place}>
        {last ? (
          <Notice kind="ok" title="Your withdrawal is on its way">
            <Credits amount={last.amount} /> have left your earnings. An operator pays them out; you see it below.
          </Notice>
        ) : null}
        <Loaded query={wallet} what="What can be withdrawn is not known now" waits={<Skeleton height="13rem" />}>
          {({ withdrawable }) => (isZero(withdrawable) ? <Nothing /> : <WithdrawForm withdrawable={withdrawable} onDone={setLast} />)}
        </Loaded>
        <WhatCanBeWithdrawn />
      </div>
    </Card>
  );
}

function Nothing() {
  return (
    <Empty icon="chip" title="Nothing can be withdrawn now" action={<ButtonLink to="/dashboard/provider">Share a GPU</ButtonLink>}>
      Earnings of your machines come here once they are released.
    </Empty>
  );
}

function WithdrawForm({ withdrawable, onDone }: { withdrawable: string; onDone: (made: Transaction) => void }) {
  const { data: config } = useQuery(queries.config);
  const [text, setText] = useState("");
  const [destination, setDestination] = useState("");
  const [isTried, setTried] = useState(false);
  const [asked, ask] = useState<Payout>();
  const [amountField, destinationField] = [useRef<HTMLInputElement>(null), useRef<HTMLInputElement>(null)];
  const bounds = { least: config?.withdrawal_min };
  const wrong = wrongWith(text, bounds);
  const isNowhere = destination.trim() === "";

  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    const amount = typed(text);
    if (wrong !== undefined || amount === undefined) return amountField.current?.focus();
    if (isNowhere) return destinationField.current?.focus();
    ask({ amount, destination: destination.trim() });
  };
  const finish = (made: Transaction) => {
    ask(undefined);
    setText("");
    setTried(false);
    onDone(made);
    amountField.current?.focus();
  };

  return (
    <form className={style.form} onSubmit={submit} noValidate>
      <div className={style.amount}>
        <Field
          label="Amount in credits"
          name="withdrawal"
          inputMode="decimal"
          autoComplete="off"
          required
          ref={amountField}
          value={text}
          error={isTried ? wrong : undefined}
          hint={boundsOf(bounds)}
          onChange={(event) => setText(event.target.value)}
        />
        <Button onClick={() => setText(withdrawable.replace(/(\.\d\d)\d+$/, "$1"))}>All</Button>
      </div>
      <Field
        label="Where to"
        name="destination"
        autoComplete="off"
        required
        maxLength={LONGEST}
        ref={destinationField}
        value={destination}
        error={isTried && isNowhere ? "Where should it be paid to?" : undefined}
        hint="An IBAN, or what else you have agreed on with who runs this platform."
        onChange={(event) => setDestination(event.target.value)}
      />
      <Button type="submit" wide icon={<Icon name="external" size={18} />}>
        Withdraw
      </Button>
      {asked ? <WithdrawDialog payout={asked} onClose={() => ask(undefined)} onDone={finish} /> : null}
    </form>
  );
}

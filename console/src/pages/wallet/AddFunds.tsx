import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useRef, useState } from "react";
import { answer } from "../../client/answer.ts";
import { ledger } from "../../client/api.ts";
import { Once } from "../../client/once.ts";
import { asProblem, Problem } from "../../client/problem.ts";
import { Button } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { Empty } from "../../components/Empty.tsx";
import { Failure } from "../../components/Failure.tsx";
import { Field } from "../../components/Field.tsx";
import { Icon } from "../../components/Icon.tsx";
import { Loaded } from "../../components/Loaded.tsx";
import { Segments } from "../../components/Segments.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import type { Config } from "../../config.ts";
import { compare, typed } from "../../money.ts";
import { keys, queries } from "../../queries.ts";
import style from "./AddFunds.module.css";
import { boundsOf, wrongWith } from "./amount.ts";
import { gatewayName, isMock } from "./gateways.ts";

/** Amounts that are a press away, where the platform takes them. */
const ROUND = ["10", "25", "50", "100"] as const;

/** Money comes in: an amount, then the payment service's own page. */
export function AddFunds() {
  const config = useQuery(queries.config);
  return (
    <Card title="Add funds">
      <Loaded query={config} what="What can be paid with is not known now" waits={<Skeleton height="13rem" />}>
        {(data) =>
          data.payment_gateways.length > 0 ? (
            <DepositForm config={data} />
          ) : (
            <Empty icon="wallet" title="No payment service is set up here">
              Ask who runs this platform how to get credits.
            </Empty>
          )
        }
      </Loaded>
    </Card>
  );
}

interface Asked {
  amount: string;
  gateway_id: string;
}

function DepositForm({ config }: { config: Config }) {
  const [gateway = "", choose] = useState(config.payment_gateways[0]);
  const [text, setText] = useState("");
  const [isWrong, setWrong] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const once = useRef(new Once());
  const queryClient = useQueryClient();
  const bounds = { least: config.deposit_min, most: config.deposit_max };

  const deposit = useMutation({
    mutationFn: async (asked: Asked) => {
      const made = await once.current.send(asked, (header) =>
        answer(ledger.POST("/api/payments/deposit/", { body: { currency: "USD", type: "DEPOSIT", ...asked }, params: { header } })),
      );
      if (made.checkout_url === null)
        throw new Problem(503, { title: "No payment page", detail: "The payment service gave none. Try again." });
      return made.checkout_url;
    },
    onSuccess: (url) => window.location.assign(url),
    onError: () => void queryClient.invalidateQueries({ queryKey: keys.wallet }),
  });
  const problem = deposit.error ? asProblem(deposit.error) : undefined;

  const submit = (event: FormEvent) => {
    event.preventDefault();
    const amount = typed(text);
    setWrong(wrongWith(text, bounds) !== undefined);
    if (amount === undefined || wrongWith(text, bounds) !== undefined) return field.current?.focus();
    deposit.mutate({ amount, gateway_id: gateway });
  };
  const write = (amount: string) => {
    setText(amount);
    setWrong(false);
    deposit.reset();
  };

  return (
    <form className={style.form} onSubmit={submit} noValidate>
      <Field
        label="Amount in credits"
        name="deposit"
        inputMode="decimal"
        autoComplete="off"
        required
        ref={field}
        value={text}
        error={(isWrong ? wrongWith(text, bounds) : undefined) ?? problem?.field("amount")}
        hint={boundsOf(bounds)}
        onChange={(event) => write(event.target.value)}
      />
      <div className={style.round} role="group" aria-label="Round amounts">
        {ROUND.filter((amount) => compare(amount, bounds.least) >= 0 && compare(amount, bounds.most) <= 0).map((amount) => (
          <button key={amount} type="button" aria-pressed={text === amount} onClick={() => write(amount)}>
            {amount}
          </button>
        ))}
      </div>
      {config.payment_gateways.length > 1 ? (
        <Segments
          label="Pay with"
          options={config.payment_gateways.map((value) => ({ value, name: gatewayName(value) }))}
          value={gateway}
          onChoose={choose}
        />
      ) : null}
      {problem && !problem.field("amount") ? <Failure problem={problem} what="The deposit was not begun" /> : null}
      <Button
        type="submit"
        look="gold"
        wide
        busy={deposit.isPending || deposit.isSuccess}
        icon={<Icon name={isMock(gateway) ? "arrow" : "external"} size={18} />}
      >
        Go to payment
      </Button>
      <p className={style.note}>
        {isMock(gateway)
          ? "This is a platform for development: its payment page moves no money."
          : `You pay on a page of ${gatewayName(gateway)} and come back here. No card number ever reaches us.`}
      </p>
    </form>
  );
}

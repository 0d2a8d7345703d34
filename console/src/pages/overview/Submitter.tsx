import { Autocomplete, Select } from "@mantine/core";
import { type FormEvent, type KeyboardEvent, useRef, useState } from "react";
import { asProblem } from "../../client/problem.ts";
import { Button } from "../../components/Button.tsx";
import { Card } from "../../components/Card.tsx";
import { choice } from "../../components/choice.ts";
import { Icon } from "../../components/Icon.tsx";
import { TextArea } from "../../components/TextArea.tsx";
import { BLANK, type Draft, desk } from "../../jobs/desk.ts";
import { checked, errorsOf } from "../../jobs/request.ts";
import { useDesk } from "../../jobs/use-desk.ts";
import { useQuote } from "../../jobs/use-quote.ts";
import { useSubmit } from "../../jobs/use-submit.ts";
import { credits, isZero } from "../../money.ts";
import { CodeDialog } from "./CodeDialog.tsx";
import { Parameters } from "./Parameters.tsx";
import { QuoteLine } from "./QuoteLine.tsx";
import { SubmitNews } from "./SubmitNews.tsx";
import style from "./Submitter.module.css";
import { nodesText, useModels } from "./use-models.ts";

/** F5: writes a request, says what it can cost, submits it. */
export function Submitter() {
  const { draft } = useDesk();
  const { models, chosen, priceOf } = useModels(draft.model);
  const { asked, errors: typed } = checked({ ...draft, model: chosen });
  const quote = useQuote(Object.keys(typed).length === 0 ? asked : undefined);
  const submit = useSubmit();
  const [isTried, setTried] = useState(false);
  const [isCode, setCode] = useState(false);
  const prompt = useRef<HTMLTextAreaElement>(null);

  const refused = submit.error ? errorsOf(asProblem(submit.error).fields) : quote.error ? errorsOf(asProblem(quote.error).fields) : {};
  const errors = { ...refused, ...typed, prompt: isTried ? (typed.prompt ?? refused.prompt) : tooLong(typed.prompt) };
  const edit = (change: Partial<Draft>) => {
    setTried(false);
    if (!submit.isPending) submit.reset();
    desk.edit(change);
  };
  const send = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (typed.prompt) prompt.current?.focus();
    if (Object.keys(typed).length === 0 && !submit.isPending) submit.mutate(asked);
  };
  const sendByKey = (event: KeyboardEvent<HTMLFormElement>) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.requestSubmit();
  };

  const isBlank = draft.prompt === "" && draft.system === "";
  const clear = (
    <Button look="quiet" disabled={isBlank} onClick={() => edit({ ...BLANK, model: draft.model })}>
      Clear
    </Button>
  );

  const offered = models.find((model) => model.name === chosen);
  const names = [...models.map((model) => model.name), ...(chosen && !offered ? [chosen] : [])];
  const labelOf = (name: string) => {
    const [model, price] = [models.find((one) => one.name === name), priceOf(name)];
    return [name, nodesText(model), price ? credits(price.job) : ""].filter(Boolean).join(" · ");
  };
  const most = quote.data && Object.keys(typed).length === 0 ? quote.data.max_cost : usualCost(priceOf(chosen));
  return (
    <Card title="Playground" aside={clear}>
      <form className={style.form} onSubmit={send} onKeyDown={sendByKey} noValidate aria-label="Submit a job">
        <div className={style.where}>
          <Select
            {...choice}
            label="Model"
            data={names.map((name) => ({ value: name, label: labelOf(name) }))}
            value={chosen || null}
            onChange={(name) => name && edit({ model: name })}
            placeholder="No model is offered now"
            nothingFoundMessage="No such model"
            allowDeselect={false}
            searchable={names.length > 8}
            error={errors.model}
          />
          <Autocomplete
            {...choice}
            label="Provider"
            placeholder="Any"
            data={offered?.providers ?? []}
            value={draft.provider}
            onChange={(provider) => edit({ provider })}
            maxLength={300}
            autoCapitalize="none"
            spellCheck={false}
            error={errors.provider}
          />
        </div>
        <TextArea
          ref={prompt}
          label="Prompt"
          rows={6}
          fill
          required
          value={draft.prompt}
          onChange={(event) => edit({ prompt: event.target.value })}
          error={errors.prompt}
          placeholder="Why is the sky blue?"
          hint="Ctrl + Enter submits."
          counter={`${draft.prompt.length.toLocaleString("en")} ${draft.prompt.length === 1 ? "character" : "characters"}`}
        />
        <Parameters draft={draft} errors={errors} onEdit={edit} />
        <div className={style.actions}>
          <Button type="submit" look="gold" size="lg" icon={<Icon name="spark" />} busy={submit.isPending}>
            Submit job{most ? ` (${credits(most)})` : ""}
          </Button>
          <Button size="lg" icon={<Icon name="code" />} onClick={() => setCode(true)} aria-haspopup="dialog">
            Use in code
          </Button>
        </div>
        <QuoteLine quote={quote.data} problem={quote.error} fields={refused} isAsked={Object.keys(typed).length === 0} />
        <SubmitNews submit={submit} />
      </form>
      <CodeDialog asked={asked} isOpen={isCode} onClose={() => setCode(false)} />
    </Card>
  );
}

/** Of what is wrong with a prompt, what is told before somebody tries. */
function tooLong(error: string | undefined): string | undefined {
  return error?.startsWith("At most") ? error : undefined;
}

/** What a job costs where tokens cost nothing; else it depends on the prompt. */
function usualCost(price: { job: string; prompt_per_million: string; completion_per_million: string } | undefined): string | undefined {
  return price && isZero(price.prompt_per_million) && isZero(price.completion_per_million) ? price.job : undefined;
}

import { type KeyboardEvent, useId, useState } from "react";
import { CopyButton } from "../../components/CopyButton.tsx";
import { Skeleton } from "../../components/Skeleton.tsx";
import * as market from "../../market/market.ts";
import { usePolled } from "../../market/polled.ts";
import style from "./Example.module.css";
import { type Examples, examples } from "./examples.ts";

const LANGUAGES: readonly (keyof Examples)[] = ["curl", "python", "javascript"];
const NAMES: Record<keyof Examples, string> = { curl: "curl", python: "Python", javascript: "JavaScript" };
const ANY_MODEL = "llama3.2:1b"; // shown as long as nothing is offered

/** A request that can be pasted: this installation's address, a model that is offered now. */
export function Example() {
  const id = useId();
  const [language, choose] = useState<keyof Examples>("curl");
  const { data: config } = usePolled(market.config);
  const { data: offered } = usePolled(market.models);
  const model = offered?.models.find((one) => one.online)?.name ?? ANY_MODEL;
  const text = config ? examples(config.api_url, model)[language] : undefined;
  const move = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const to = LANGUAGES[(LANGUAGES.indexOf(language) + step + LANGUAGES.length) % LANGUAGES.length] ?? "curl";
    choose(to);
    document.getElementById(`${id}-${to}`)?.focus();
  };
  return (
    <div className={style.window}>
      <div className={style.bar}>
        <div role="tablist" aria-label="Language of the example" onKeyDown={move}>
          {LANGUAGES.map((one) => (
            <button
              key={one}
              type="button"
              role="tab"
              id={`${id}-${one}`}
              aria-selected={one === language}
              aria-controls={`${id}-panel`}
              tabIndex={one === language ? 0 : -1}
              onClick={() => choose(one)}
            >
              {NAMES[one]}
            </button>
          ))}
        </div>
        {text ? <CopyButton text={text} what={`example in ${NAMES[language]}`} /> : null}
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a panel that scrolls is reached by the keyboard */}
      <div role="tabpanel" id={`${id}-panel`} aria-labelledby={`${id}-${language}`} tabIndex={0} className={style.panel} aria-busy={!text}>
        {text ? (
          <pre>
            <code>{text}</code>
          </pre>
        ) : (
          <div className={style.waits}>
            {["82%", "64%", "58%", "30%", "74%"].map((width) => (
              <Skeleton key={width} width={width} />
            ))}
          </div>
        )}
      </div>
      <p className={style.foot}>OpenAI’s, Ollama’s and Anthropic’s clients work as they are: only the address and the key are ours.</p>
    </div>
  );
}

import { credits } from "../money.ts";
import type { Job } from "../queries.ts";
import style from "./AnswerFigures.module.css";
import { firstTokenS, type Seen, spanText, tokensPerS } from "./pace.ts";

interface Props {
  /** Once it has ended. */
  job: Job | undefined;
  /** What is reserved until then. */
  held: string | undefined;
  seen: Seen;
}

/** What an answer took: tokens, credits, time. Each figure has its place before it is known. */
export function AnswerFigures({ job, held, seen }: Props) {
  const [first, speed] = [firstTokenS(seen), job && tokensPerS(job, seen)];
  const usage = job?.usage;
  const cost = job?.cost ?? undefined;
  return (
    <dl className={style.figures}>
      <One name={cost === undefined ? "Held" : "Cost"} value={cost === undefined ? held && credits(held) : credits(cost)} />
      <One name="Tokens in, out" value={usage && `${usage.prompt_tokens}, ${usage.completion_tokens ?? 0}`} />
      <One name="First token" value={first === undefined ? undefined : spanText(first)} />
      <One name="Tokens per s" value={speed?.toFixed(1)} />
    </dl>
  );
}

function One({ name, value }: { name: string; value: string | null | undefined }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className="figures">{value || "–"}</dd>
    </div>
  );
}

import style from "./How.module.css";
import { Section } from "./Section.tsx";

const STEPS = [
  ["You ask", "Over REST with a key, or here in the console. The quote says the most that the job can cost, and just that is held."],
  [
    "The market chooses",
    "A free machine that has the model and is not your own takes the job. Why it was this one, in a sentence per machine, can be asked afterwards.",
  ],
  ["The answer streams", "Word by word, as it is made. When your connection breaks, you read on from where you were."],
  ["It is settled", "What was delivered is paid to whoever ran it; the rest of the hold is free again. You get a receipt."],
] as const;

/** A job from its beginning to its end. */
export function How() {
  return (
    <Section id="how" raised title="How it works" lead="From your question to the last entry in the books.">
      <ol className={style.steps}>
        {STEPS.map(([title, text], at) => (
          <li key={title}>
            <span className={style.number} aria-hidden="true">
              {at + 1}
            </span>
            <h3>{title}</h3>
            <p>{text}</p>
          </li>
        ))}
      </ol>
    </Section>
  );
}

import { Failure } from "../components/Failure.tsx";
import { Markdown } from "../components/markdown/Markdown.tsx";
import { Skeleton } from "../components/Skeleton.tsx";
import { Status } from "../components/Status.tsx";
import style from "./AnswerText.module.css";
import { readerOf } from "./readers.ts";
import type { Reading } from "./reading.ts";
import { useFollowing } from "./use-following.ts";

interface Props {
  id: string;
  reading: Reading;
  /** In a place of its own height, where it scrolls. */
  scrolls?: boolean;
}

/** An answer as far as it was read; says so when it is being read on after a break, or cannot be read. */
export function AnswerText({ id, reading, scrolls = false }: Props) {
  const { text, thinking, connection, problem, job } = reading;
  const place = useFollowing(text);
  return (
    <div
      ref={place}
      className={`${style.answer} ${scrolls ? style.scrolls : ""}`}
      role="group"
      aria-label="Answer"
      tabIndex={scrolls ? 0 : undefined}
    >
      {thinking ? (
        <details className={style.thinking}>
          <summary>{text || job ? "What it thought" : "Thinking …"}</summary>
          <p>{thinking}</p>
        </details>
      ) : null}
      {text ? (
        <div className={job ? "" : style.growing}>
          <Markdown text={text} />
        </div>
      ) : job === undefined && problem === undefined ? (
        <p className={style.lines}>
          <Skeleton width="92%" />
          <Skeleton width="78%" />
          <Skeleton width="60%" />
        </p>
      ) : null}
      {connection === "reconnecting" && job === undefined ? (
        <p role="status">
          <Status tone="busy">The stream broke off; it goes on where it was</Status>
        </p>
      ) : null}
      {problem ? <Failure problem={problem} what="The answer cannot be read now" onRetry={readerOf(id).again} /> : null}
    </div>
  );
}

import style from "./Command.module.css";
import { CopyButton } from "./CopyButton.tsx";

interface Props {
  /** What to paste. */
  text: string;
  /** What it is, for those who hear the page: `command`, `example in Python`. */
  what?: string;
}

/** A command or an example, ready to be copied. */
export function Command({ text, what = "command" }: Props) {
  return (
    <div className={style.command}>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by the keyboard */}
      <pre tabIndex={0} role="group" aria-label={what}>
        <code>{text}</code>
      </pre>
      <CopyButton text={text} what={what} />
    </div>
  );
}

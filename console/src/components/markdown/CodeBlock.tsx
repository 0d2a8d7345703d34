import { CopyButton } from "../CopyButton.tsx";
import style from "./Markdown.module.css";

/** Code, with a button to copy it. */
export function CodeBlock({ text, language }: { text: string; language?: string | undefined }) {
  const name = language?.trim().split(/\s/)[0];
  return (
    <div className={style.code}>
      <div className={style.bar}>
        <span>{name || "code"}</span>
        <CopyButton text={text} what={name ? `${name} code` : "code"} />
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by the keyboard */}
      <pre tabIndex={0} role="group" aria-label={name ? `${name} code` : "code"}>
        <code>{text}</code>
      </pre>
    </div>
  );
}

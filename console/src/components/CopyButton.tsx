import { useEffect, useState } from "react";
import style from "./CopyButton.module.css";
import { Icon } from "./Icon.tsx";

const SHOWN_MS = 2000;

/** Puts a text into the clipboard; says that it did, to the eye and to the ear. */
export function CopyButton({ text, what }: { text: string; what: string }) {
  const [said, say] = useState<"" | "Copied" | "Press Ctrl+C to copy">("");
  useEffect(() => {
    if (said === "") return;
    const timer = setTimeout(() => say(""), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
    } catch {
      say("Press Ctrl+C to copy"); // no clipboard on plain http away from this machine
    }
  };
  return (
    <button type="button" className={style.copy} onClick={copy}>
      <Icon name={said === "Copied" ? "check" : "copy"} size={18} />
      <span className="heard">Copy {what}</span>
      <span role="status" className={style.said}>
        {said}
      </span>
    </button>
  );
}

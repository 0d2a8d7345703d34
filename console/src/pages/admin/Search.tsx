import { type FormEvent, type ReactNode, useEffect, useRef, useState } from "react";
import { Field } from "../../components/Field.tsx";

interface Props {
  label: string;
  hint?: ReactNode;
  /** What is searched for now. */
  value: string;
  onSearch: (text: string) => void;
}

const PAUSE_MS = 350;
const MOST_LETTERS = 100;

/** A field to search by: it searches when the typing pauses, or at Enter. */
export function Search({ label, hint, value, onSearch }: Props) {
  const [text, setText] = useState(value);
  const sent = useRef(value);
  const search = () => {
    if (text.trim() === sent.current) return;
    sent.current = text.trim();
    onSearch(sent.current);
  };
  useEffect(() => {
    if (value === sent.current) return; // what was typed here comes back; more may have been typed since
    sent.current = value;
    setText(value);
  }, [value]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: what is typed counts, not who listens
  useEffect(() => {
    const timer = setTimeout(search, PAUSE_MS);
    return () => clearTimeout(timer);
  }, [text]);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    search();
  };
  return (
    <form role="search" onSubmit={submit} noValidate>
      <Field
        label={label}
        hint={hint}
        type="search"
        value={text}
        onChange={(event) => setText(event.target.value)}
        maxLength={MOST_LETTERS}
        autoComplete="off"
        spellCheck={false}
        required
      />
    </form>
  );
}

import { useId } from "react";
import style from "./Segments.module.css";

interface Props<Value extends string> {
  /** What is chosen, for those who hear it. */
  label: string;
  options: readonly { value: Value; name: string }[];
  value: Value;
  onChoose: (value: Value) => void;
}

/** One of a few, side by side. */
export function Segments<Value extends string>({ label, options, value, onChoose }: Props<Value>) {
  const name = useId();
  return (
    <fieldset className={style.segments}>
      <legend className="heard">{label}</legend>
      {options.map((option) => (
        <label key={option.value} className={style.segment}>
          <input type="radio" name={name} value={option.value} checked={option.value === value} onChange={() => onChoose(option.value)} />
          <span>{option.name}</span>
        </label>
      ))}
    </fieldset>
  );
}

import { useId } from "react";
import style from "./ScopeFields.module.css";
import { SCOPES } from "./scopes.ts";

interface Props {
  scopes: readonly string[];
  error?: string | undefined;
  onChange: (scopes: string[]) => void;
}

/** What a key may do. */
export function ScopeFields({ scopes, error, onChange }: Props) {
  const id = useId();
  const toggle = (scope: string, isOn: boolean) => onChange(isOn ? [...scopes, scope] : scopes.filter((one) => one !== scope));
  return (
    <fieldset className={style.scopes} aria-describedby={error ? id : undefined}>
      <legend>It may</legend>
      {SCOPES.map(({ scope, name, says }) => (
        <label key={scope}>
          <input type="checkbox" checked={scopes.includes(scope)} onChange={(event) => toggle(scope, event.target.checked)} />
          <span>
            <strong>{name}</strong>
            <small>{says}</small>
          </span>
        </label>
      ))}
      <p id={id} role="alert" hidden={!error} className={style.error}>
        {error}
      </p>
    </fieldset>
  );
}

import { choose, useScheme } from "../theme/scheme.ts";
import { Icon } from "./Icon.tsx";
import style from "./SchemeToggle.module.css";

/** Dark or light. */
export function SchemeToggle() {
  const scheme = useScheme();
  return (
    <button
      type="button"
      className={style.toggle}
      aria-pressed={scheme === "light"}
      aria-label="Light colors"
      onClick={() => choose(scheme === "light" ? "dark" : "light")}
    >
      <Icon name={scheme === "light" ? "moon" : "sun"} />
    </button>
  );
}

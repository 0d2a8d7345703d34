import { Icon } from "../../components/Icon.tsx";
import { Logo } from "../../components/Logo.tsx";
import type { Stage } from "./stage.ts";
import style from "./Wire.module.css";

/** The machine, the wire, the platform: how far the connection is. The words below say the same. */
export function Wire({ stage }: { stage: Stage["is"] | undefined }) {
  return (
    <div className={style.wire} data-stage={stage ?? "none"} aria-hidden="true">
      <span className={style.machine}>
        <Icon name="chip" size={30} />
      </span>
      <span className={style.line}>
        <span className={style.pulse} />
      </span>
      <span className={style.platform}>
        <Logo bare />
      </span>
    </div>
  );
}

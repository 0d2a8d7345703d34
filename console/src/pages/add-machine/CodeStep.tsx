import { useState } from "react";
import { Button } from "../../components/Button.tsx";
import { Command } from "../../components/Command.tsx";
import { Icon } from "../../components/Icon.tsx";
import { Notice } from "../../components/Notice.tsx";
import { Segments } from "../../components/Segments.tsx";
import type { MadeAgentToken } from "../provider/queries.ts";
import style from "./CodeStep.module.css";
import { isOnlyHere, recipe, SYSTEMS, type System, usualSystem } from "./commands.ts";
import { clock, type Stage } from "./stage.ts";

interface Props {
  made: MadeAgentToken | undefined;
  /** Seconds that the code is good for. */
  left: number | undefined;
  stage: Stage | undefined;
  onAgain: () => void;
}

/** Step 2: the code, shown this once, and the exact command for each system. */
export function CodeStep({ made, left, stage, onAgain }: Props) {
  const [system, choose] = useState<System>(() => usualSystem(navigator.userAgent));
  if (!made || !stage) return <p className={style.later}>The code and the exact command stand here then.</p>;
  if (stage.is === "expired" || stage.is === "revoked") {
    return (
      <Notice
        kind="warn"
        title={stage.is === "expired" ? "The code has expired" : "The code was revoked"}
        action={
          <Button look="gold" icon={<Icon name="refresh" size={18} />} onClick={onAgain}>
            Make a new code
          </Button>
        }
      >
        Nobody used it, and nobody can any more.
      </Notice>
    );
  }
  if (stage.is !== "waiting") return <p className={style.later}>The code was used. It is worth nothing to anybody else now.</p>;
  const site = window.location.origin;
  const { steps, know } = recipe(system, site, made.token);
  return (
    <>
      <div className={style.code}>
        <Command text={made.token} what="code" />
        <p className={style.left}>
          <Icon name="clock" size={18} />
          <span>
            Good for <strong className="figures">{clock(left ?? 0)}</strong>, for one machine. It is shown this once.
          </span>
        </p>
      </div>
      <Segments
        label="The machine runs"
        options={SYSTEMS.map((one) => ({ value: one, name: recipe(one, site, "").name }))}
        value={system}
        onChoose={choose}
      />
      <p className={style.know}>{know}</p>
      <ol className={style.commands}>
        {steps.map((step) => (
          <li key={step.what}>
            <h3>{step.what}</h3>
            <Command text={step.command} what={`command: ${step.what}`} />
          </li>
        ))}
      </ol>
      {isOnlyHere(window.location.hostname) ? (
        <Notice title="These lines work on this machine alone">
          The console is open at {window.location.host}, which other machines cannot reach. Open it by its public name to add one of those.
        </Notice>
      ) : null}
    </>
  );
}

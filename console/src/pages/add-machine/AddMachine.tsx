import { useQuery } from "@tanstack/react-query";
import { Link, useSearch } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import { Icon } from "../../components/Icon.tsx";
import { Page } from "../../shell/Page.tsx";
import { type MadeAgentToken, provider } from "../provider/queries.ts";
import style from "./AddMachine.module.css";
import { CodeStep } from "./CodeStep.tsx";
import { ConnectStep } from "./ConnectStep.tsx";
import { LabelStep } from "./LabelStep.tsx";
import { useTimeLeft } from "./time-left.ts";
import { useStage } from "./watching.ts";

/** Make one's machine a node: name it, run one line on it, watch it connect. With `?node=` a machine that was cut off comes back. */
export function AddMachine() {
  const { node: id } = useSearch({ from: "/dashboard/provider/add" });
  const { data: again } = useQuery({ ...provider.node(id ?? ""), enabled: id !== undefined, refetchInterval: false });
  const [made, setMade] = useState<MadeAgentToken>();
  const left = useTimeLeft(made);
  const stage = useStage(made, left === 0);
  const step = useRef<HTMLLIElement>(null);
  const key = made?.id;
  useEffect(() => {
    if (key !== undefined) step.current?.focus();
  }, [key]);
  const restart = () => setMade(undefined);
  const isDone = stage?.is === "enrolled" || stage?.is === "connected";
  return (
    <Page
      title={again ? `A new code for ${again.name}` : "Add a machine"}
      lead={
        <Link to="/dashboard/provider" className={style.back}>
          <Icon name="back" size={18} /> Provider
        </Link>
      }
    >
      <ol className={style.steps}>
        <li className={style.step} aria-current={made ? undefined : "step"}>
          <StepNumber at={1} isDone={made !== undefined} />
          <div className={style.body}>
            <h2>{again ? "Make a code" : "Name it"}</h2>
            <LabelStep node={again ?? undefined} made={made} onMade={setMade} />
          </div>
        </li>
        <li className={style.step} aria-current={made && !isDone ? "step" : undefined} ref={step} tabIndex={-1}>
          <StepNumber at={2} isDone={isDone} />
          <div className={style.body}>
            <h2>Run one line on it</h2>
            <CodeStep made={made} left={left} stage={stage} onAgain={restart} />
          </div>
        </li>
        <li className={style.step} aria-current={isDone ? "step" : undefined}>
          <StepNumber at={3} isDone={stage?.is === "connected"} />
          <div className={style.body}>
            <h2>Watch it connect</h2>
            <ConnectStep stage={stage} name={made?.label || again?.name} onAgain={restart} />
          </div>
        </li>
      </ol>
    </Page>
  );
}

function StepNumber({ at, isDone }: { at: number; isDone: boolean }) {
  return (
    <span className={style.number} data-done={isDone ? "" : undefined} aria-hidden="true">
      {isDone ? <Icon name="check" size={20} /> : at}
    </span>
  );
}

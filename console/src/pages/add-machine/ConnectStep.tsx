import { useQuery } from "@tanstack/react-query";
import { Button, ButtonLink } from "../../components/Button.tsx";
import { Said } from "../machine/Said.tsx";
import { summary } from "../provider/hardware.ts";
import { provider, type WhyNoJobs } from "../provider/queries.ts";
import style from "./ConnectStep.module.css";
import type { Stage } from "./stage.ts";
import { Wire } from "./Wire.tsx";

interface Props {
  stage: Stage | undefined;
  /** What the machine is called, where that is known. */
  name: string | undefined;
  onAgain: () => void;
}

/** Step 3: a picture of how far the machine is, the same in words, and what comes next. */
export function ConnectStep({ stage, name, onAgain }: Props) {
  const isThere = stage?.is === "connected" && stage.live.models.length > 0;
  const why = useQuery({ ...provider.why(stage?.is === "connected" ? stage.node : ""), enabled: isThere });
  const [title, usual] = said(stage, name);
  const more = (why.data && !why.data.takes_jobs && whyNot(why.data)) || usual;
  return (
    <>
      <Wire stage={stage?.is} />
      <div role="status" className={style.said}>
        <p className={style.title}>{title}</p>
        <p className={style.more}>
          <Said text={more} />
        </p>
      </div>
      {stage?.is === "connected" ? (
        <div className={style.next}>
          <ButtonLink to="/dashboard/provider/$id" params={{ id: stage.node }} look="gold">
            See how it does
          </ButtonLink>
          <Button onClick={onAgain}>Add another machine</Button>
        </div>
      ) : null}
    </>
  );
}

function said(stage: Stage | undefined, name: string | undefined): readonly [title: string, more: string] {
  switch (stage?.is) {
    case "waiting":
      return [
        "Waiting for the machine…",
        "This page sees it as soon as the line has run there. You can leave: the machine appears among yours.",
      ];
    case "enrolled":
      return ["The code was used. The agent connects…", "It looks for its runtime and its models first; that can take a while."];
    case "connected":
      return [
        `Connected: ${summary(name || stage.live.name, stage.live)}`,
        stage.live.models.length > 0
          ? "Jobs come when consumers ask for its models."
          : "It offers no model yet: pull one there, and it is offered within half a minute.",
      ];
    case "expired":
    case "revoked":
      return ["Nobody came", "Make a new code, then run the new line."];
    default:
      return ["Nothing to see yet", "It begins with a code."];
  }
}

/** What keeps jobs away from a machine that has just come, in the platform's own words. */
function whyNot(why: WhyNoJobs): string | undefined {
  return why.reasons[0] ?? why.models.find((model) => !model.offered)?.why;
}

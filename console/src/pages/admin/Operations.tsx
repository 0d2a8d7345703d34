import { Page } from "../../shell/Page.tsx";
import style from "./admin.module.css";
import { Books } from "./operations/Books.tsx";
import { OperationsCommands, StatusLink } from "./operations/Elsewhere.tsx";
import { NodeCounts } from "./operations/NodeCounts.tsx";
import { Now } from "./operations/Now.tsx";
import { Queue } from "./operations/Queue.tsx";
import { ToolButtons, ToolNews, useEntering } from "./operations/Tools.tsx";
import { Waits } from "./operations/Waits.tsx";

/** How the platform does, and what waits for an operator. */
export function Operations() {
  const entering = useEntering();
  const actions = (
    <>
      <ToolButtons entering={entering} />
      <StatusLink />
    </>
  );
  return (
    <Page title="Operations" lead="How the platform does, and what waits for you." actions={actions}>
      <ToolNews entering={entering} />
      <Now />
      <div className={style.pair}>
        <Waits />
        <NodeCounts />
      </div>
      <div className={style.pair}>
        <Queue />
        <Books />
      </div>
      <OperationsCommands />
    </Page>
  );
}

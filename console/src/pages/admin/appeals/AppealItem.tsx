import { Link } from "@tanstack/react-router";
import { answer } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import { Status, type Tone } from "../../../components/Status.tsx";
import { Time } from "../../../components/Time.tsx";
import { ChangeButton } from "../change/ChangeButton.tsx";
import { type Appeal, type AppealState, keys } from "../queries.ts";
import style from "./AppealItem.module.css";

const SHOWN: Record<AppealState, readonly [Tone, string]> = {
  OPEN: ["busy", "To decide"],
  UPHELD: ["ok", "Upheld"],
  REFUSED: ["none", "Refused"],
};

/** An appeal: what the provider says, and what was answered or can be. */
export function AppealItem({ appeal }: { appeal: Appeal }) {
  const [tone, word] = SHOWN[appeal.state];
  return (
    <li className={style.appeal}>
      <div className={style.head}>
        <Status tone={tone}>{word}</Status>
        <Link to="/admin/nodes/$id" params={{ id: appeal.node_id }}>
          Node {appeal.node_id}
        </Link>
        <Time at={appeal.created_at} />
      </div>
      <blockquote className={style.note}>{appeal.note}</blockquote>
      {appeal.answer === null ? (
        <div className={style.actions}>
          <DecideButton appeal={appeal} uphold />
          <DecideButton appeal={appeal} uphold={false} />
        </div>
      ) : (
        <p className={style.answer}>
          <strong>Answered{appeal.decided_at ? " " : ""}</strong>
          {appeal.decided_at ? <Time at={appeal.decided_at} /> : null}: {appeal.answer}
        </p>
      )}
    </li>
  );
}

function DecideButton({ appeal, uphold }: { appeal: Appeal; uphold: boolean }) {
  return (
    <ChangeButton
      label={uphold ? "Uphold" : "Refuse"}
      about={`the appeal of ${appeal.node_id}`}
      look={uphold ? "gold" : "plain"}
      title={uphold ? "Uphold this appeal?" : "Refuse this appeal?"}
      action={uphold ? "Uphold" : "Refuse"}
      isGrave={!uphold}
      reason="Answer"
      reasonHint="The provider reads it; kept in the audit log."
      stale={[keys.appeals, keys.suspects, keys.nodes]}
      change={async ({ reason, headers }) => {
        const path = { appeal_id: appeal.id };
        await answer(ledger.POST("/api/admin/appeals/{appeal_id}/decide/", { params: { path }, body: { reason, uphold }, headers }));
        return uphold
          ? { title: "Upheld", text: "The node is pardoned, and has back what it lost." }
          : { title: "Refused", text: "What was found stays." };
      }}
    >
      <p>
        {uphold
          ? "The provider is right: the node is pardoned, a quarantine or ban ends, and what was forfeited is given back."
          : "What was found stays, and so does the node's state. The decision is final for this appeal."}
      </p>
    </ChangeButton>
  );
}

import { answer } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import { Credits } from "../../../components/Credits.tsx";
import { useSession } from "../../../session/use-session.ts";
import style from "../admin.module.css";
import { ChangeButton } from "../change/ChangeButton.tsx";
import { type Correction, keys } from "../queries.ts";

/** What can be done about a correction that waits. The second operator is another than who proposed it or gets it. */
export function CorrectionActions({ correction }: { correction: Correction }) {
  const self = useSession().claims?.sub;
  if (correction.state !== "PENDING") return null;
  const path = { correction_id: correction.id };
  const stale = [keys.corrections, keys.users];
  const isOthers = self !== correction.proposed_by && self !== correction.user;
  return (
    <div className={style.actions}>
      {isOthers ? (
        <ChangeButton
          label="Approve"
          about={correction.id}
          look="gold"
          title="Approve this correction?"
          action="Approve"
          stale={stale}
          change={async ({ headers }) => {
            await answer(ledger.POST("/api/admin/corrections/{correction_id}/approve/", { params: { path }, headers }));
            return { title: "Approved and posted" };
          }}
        >
          <p>
            <strong>
              <Credits amount={correction.amount} signed />
            </strong>
            : {correction.reason}
          </p>
        </ChangeButton>
      ) : (
        <span className={style.said}>waits for a second operator</span>
      )}
      <ChangeButton
        label="Refuse"
        about={correction.id}
        title="Refuse this correction?"
        action="Refuse"
        isGrave
        stale={stale}
        change={async ({ headers }) => {
          await answer(ledger.POST("/api/admin/corrections/{correction_id}/refuse/", { params: { path }, headers }));
          return { title: "Refused", text: "No credits were moved." };
        }}
      >
        <p>
          <strong>
            <Credits amount={correction.amount} signed />
          </strong>
          : {correction.reason}. Nothing is moved; who wants it proposes it anew.
        </p>
      </ChangeButton>
    </div>
  );
}

import { answer } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import { Credits } from "../../../components/Credits.tsx";
import style from "../admin.module.css";
import { ChangeButton } from "../change/ChangeButton.tsx";
import { keys, type Withdrawal } from "../queries.ts";

const STALE = [keys.withdrawals];

/** What can be done about a withdrawal that waits. */
export function WithdrawalActions({ withdrawal }: { withdrawal: Withdrawal }) {
  if (withdrawal.status !== "PENDING") return null;
  const path = { withdrawal_id: withdrawal.id };
  return (
    <div className={style.actions}>
      <ChangeButton
        label="Note as paid"
        about={withdrawal.id}
        look="gold"
        title={`Was ${withdrawal.user} paid?`}
        action="It was paid"
        stale={STALE}
        change={async ({ headers }) => {
          const now = await answer(ledger.POST("/api/admin/withdrawals/{withdrawal_id}/pay/", { params: { path }, headers }));
          return now.status === "SUCCESS"
            ? { title: "Noted as paid" }
            : { title: "You agreed", text: "It is large: it is done when a second operator says that it was paid." };
        }}
      >
        <p>
          <strong>
            <Credits amount={withdrawal.amount} />
          </strong>{" "}
          to <strong>{withdrawal.destination ?? "where you agreed on"}</strong>. This sends no money: pay first, outside. It cannot be
          undone here.
        </p>
      </ChangeButton>
      <ChangeButton
        label="Refuse"
        about={withdrawal.id}
        title={`Refuse the withdrawal of ${withdrawal.user}?`}
        action="Refuse"
        isGrave
        reason="Reason"
        reasonHint="The provider reads it; kept in the audit log."
        stale={STALE}
        change={async ({ reason, headers }) => {
          await answer(ledger.POST("/api/admin/withdrawals/{withdrawal_id}/refuse/", { params: { path }, body: { reason }, headers }));
          return { title: "Refused", text: "The money is back with the provider's earnings." };
        }}
      >
        <p>
          <strong>
            <Credits amount={withdrawal.amount} />
          </strong>{" "}
          goes back to the earnings of {withdrawal.user}, who may ask again.
        </p>
      </ChangeButton>
    </div>
  );
}

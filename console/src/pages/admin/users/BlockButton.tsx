import { done } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import { useSession } from "../../../session/use-session.ts";
import { ChangeButton } from "../change/ChangeButton.tsx";
import { keys, type Person } from "../queries.ts";

/** Blocks an account, or lets it work again. Nobody blocks themselves. */
export function BlockButton({ person }: { person: Person }) {
  const self = useSession().claims?.sub;
  if (person.id === self) return null;
  const path = { user_id: person.id };
  const stale = [keys.users, keys.user(person.id)];
  if (person.blocked_at !== null) {
    return (
      <ChangeButton
        label="Unblock"
        about={person.username}
        title={`Unblock ${person.username}?`}
        action="Unblock"
        stale={stale}
        change={async ({ headers }) => {
          await done(ledger.POST("/api/admin/users/{user_id}/unblock/", { params: { path }, headers }));
          return { title: `${person.username} may sign in again` };
        }}
      >
        <p>The account works again. Its sign-ins stay ended: who uses it signs in anew.</p>
      </ChangeButton>
    );
  }
  return (
    <ChangeButton
      label="Block"
      about={person.username}
      title={`Block ${person.username}?`}
      action="Block"
      isGrave
      reason="Reason"
      stale={stale}
      change={async ({ reason, headers }) => {
        await done(ledger.POST("/api/admin/users/{user_id}/block/", { params: { path }, body: { reason }, headers }));
        return { title: `${person.username} is blocked`, text: "Every sign-in of the account has ended, and its keys do not work." };
      }}
    >
      <p>All sign-ins of the account end and its keys stop working within seconds. Its money stays where it is.</p>
    </ChangeButton>
  );
}

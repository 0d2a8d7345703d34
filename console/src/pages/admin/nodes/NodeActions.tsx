import { done } from "../../../client/answer.ts";
import { ledger } from "../../../client/api.ts";
import style from "../admin.module.css";
import { ChangeButton } from "../change/ChangeButton.tsx";
import { keys } from "../queries.ts";
import { type AdminNode, drainNode, resumeNode } from "./api.ts";

/** Lets a node that is here take no new jobs, or take them again. */
export function DrainButton({ node }: { node: AdminNode }) {
  const stale = [keys.nodes];
  if (node.draining) {
    return (
      <ChangeButton
        label="Resume"
        about={node.name}
        title={`Let ${node.name} take jobs again?`}
        action="Resume"
        isLogged={false}
        isOffered={node.online}
        stale={stale}
        change={async () => {
          await resumeNode(node.id);
          return { title: `${node.name} takes jobs again`, text: UNLOGGED };
        }}
      >
        <p>It gets jobs again at once.</p>
      </ChangeButton>
    );
  }
  return (
    <ChangeButton
      label="Drain"
      about={node.name}
      title={`Drain ${node.name}?`}
      action="Drain"
      isLogged={false}
      isOffered={node.online}
      stale={stale}
      change={async () => {
        await drainNode(node.id);
        return { title: `${node.name} gets no new jobs`, text: UNLOGGED };
      }}
    >
      <p>It gets no new jobs; those that run are finished. It can be resumed at any time.</p>
    </ChangeButton>
  );
}

const UNLOGGED = "The job APIs did this; they keep no audit log.";

interface Judged {
  id: string;
  name: string;
  state: string | null;
}

interface Offered {
  node: Judged;
  isOffered: boolean;
}

const STALE = [keys.nodes, keys.suspects, keys.appeals, keys.verdicts];

/** Bans a node, lifts its quarantine, pardons it: what fits the state that it is in. */
export function JudgeButtons({ node, hasFindings = false }: { node: Judged; hasFindings?: boolean }) {
  const isBanned = node.state === "banned";
  const isQuarantined = node.state === "quarantined";
  return (
    <div className={style.actions}>
      <LiftButton node={node} isOffered={isQuarantined} />
      <PardonButton node={node} isOffered={isQuarantined || isBanned || hasFindings} />
      <BanButton node={node} isOffered={!isBanned} />
    </div>
  );
}

function LiftButton({ node, isOffered }: Offered) {
  return (
    <ChangeButton
      isOffered={isOffered}
      label="Lift quarantine"
      about={`of ${node.name}`}
      title={`Let ${node.name} work again?`}
      action="Lift quarantine"
      reason="Reason"
      reasonHint="The provider reads it; kept in the audit log."
      stale={STALE}
      change={({ reason, headers }) => lift(node, { reason, pardon: false }, headers, `${node.name} works again`)}
    >
      <p>It gets jobs again. Its strikes stay: what is found next counts together with them.</p>
    </ChangeButton>
  );
}

function PardonButton({ node, isOffered }: Offered) {
  return (
    <ChangeButton
      isOffered={isOffered}
      label="Pardon"
      about={node.name}
      title={`Pardon ${node.name}?`}
      action="Pardon"
      reason="Reason"
      reasonHint="The provider reads it; kept in the audit log."
      stale={STALE}
      change={({ reason, headers }) => lift(node, { reason, pardon: true }, headers, `${node.name} is pardoned`)}
    >
      <p>Nothing that was found so far counts any more. A quarantine or a ban ends, and the node gets back what it lost by a ban.</p>
    </ChangeButton>
  );
}

async function lift(node: Judged, body: { reason: string; pardon: boolean }, headers: { "X-Request-Id": string }, title: string) {
  await done(ledger.POST("/api/admin/nodes/{node_id}/lift/", { params: { path: { node_id: node.id } }, body, headers }));
  return { title };
}

function BanButton({ node, isOffered }: Offered) {
  return (
    <ChangeButton
      isOffered={isOffered}
      label="Ban"
      about={node.name}
      title={`Ban ${node.name}?`}
      action="Ban"
      isGrave
      reason="Reason"
      reasonHint="The provider reads it; kept in the audit log."
      stale={STALE}
      change={async ({ reason, headers }) => {
        const path = { node_id: node.id };
        await done(ledger.POST("/api/admin/nodes/{node_id}/ban/", { params: { path }, body: { reason }, headers }));
        return { title: `${node.name} is banned`, text: "It gets no jobs and earns nothing from now on. Its provider may appeal." };
      }}
    >
      <p>It gets no jobs and earns nothing from now on, and what it was not paid out yet stays where it is. Only a pardon ends this.</p>
    </ChangeButton>
  );
}

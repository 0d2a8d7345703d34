"""What a node's record says now, and what is done to a node: each step with its reason, in the audit log, in the node's history and in the feed.

Whoever calls has opened a transaction and locked the node (`lock`), so that two verdicts of one moment come one after the other.
"""

import uuid
from dataclasses import dataclass

from ledger.audit_log import Origin, note
from ledger.db import Connection
from ledger.identity.nodes import State, lock_owner
from ledger.verification import rules
from ledger.verification.rules import Tier

SYSTEM = Origin("system")
# Judged are audits by the rules about the model, of answers that somebody paid for; a pardon by an operator begins a new record, and so does a
# pause for suspicions about speed.
_RECORD = """
WITH since AS (SELECT coalesce(max(at), '-infinity') AS at FROM ledger.node_step WHERE node_id = %(node)s AND step = 'pardon')
SELECT
  coalesce((SELECT array_agg(v.is_flagged ORDER BY v.at, v.job_id) FROM (
    SELECT w.is_flagged, w.at, w.job_id FROM ledger.audit_verdict w WHERE w.node_id = %(node)s AND w.rule IN ('A', 'B') AND NOT w.is_admission AND w.at > since.at
    ORDER BY w.at DESC, w.job_id DESC LIMIT %(window)s) v), '{}'),
  coalesce((SELECT array_agg(a.jobs ORDER BY a.jobs) FROM (
    SELECT c.jobs FROM ledger.count_alarm c WHERE c.node_id = %(node)s AND c.kind = 'count' AND c.at > since.at ORDER BY c.at DESC LIMIT %(alarms)s) a), '{}'),
  coalesce((SELECT array_agg(a.jobs ORDER BY a.jobs) FROM (
    SELECT c.jobs FROM ledger.count_alarm c WHERE c.node_id = %(node)s AND c.kind = 'timing'
    AND c.at > greatest(since.at, (SELECT max(at) FROM ledger.node_step WHERE node_id = %(node)s AND step = 'pause')) ORDER BY c.at DESC LIMIT %(timings)s) a), '{}')
FROM since
"""


@dataclass(frozen=True, slots=True)
class Locked:
    """A node that nobody else changes until the transaction ends."""

    id: str
    person: uuid.UUID
    kind: str
    state: State
    tier: Tier
    audit_percent: int
    has_key: bool
    name: str


@dataclass(frozen=True, slots=True)
class Record:
    """What counts of a node's history: judged audits, alarms about counts, suspicions about speed, the oldest first."""

    flags: tuple[bool, ...]
    alarms_at: tuple[int, ...]
    timings_at: tuple[int, ...] = ()

    @property
    def strikes(self) -> int:
        """How many flags count as strikes."""
        return rules.strikes_of(self.flags)

    @property
    def alarms(self) -> int:
        """How many alarms there are in the last jobs."""
        return rules.recent_alarms(self.alarms_at)


async def lock(connection: Connection, node: str) -> Locked | None:
    """Lock a node's owner, then the node: in the order of everybody who changes nodes. None: there is no such node."""
    found = await (await connection.execute("SELECT person_id FROM ledger.node WHERE id = %s", [node])).fetchone()
    if found is None:
        return None
    await lock_owner(connection, found[0])
    cursor = await connection.execute(
        "SELECT id, person_id, kind, state, tier, audit_percent, public_key IS NOT NULL, name FROM ledger.node WHERE id = %s FOR NO KEY UPDATE",
        [node],
    )
    row = await cursor.fetchone()
    assert row is not None
    return Locked(*row)


async def read_record(connection: Connection, node: str) -> Record:
    """Read what counts of a node's history."""
    cursor = await connection.execute(
        _RECORD, {"node": node, "window": rules.STRIKE_WINDOW, "alarms": rules.ALARMS, "timings": rules.TIMINGS}
    )
    row = await cursor.fetchone()
    assert row is not None
    return Record(*map(tuple, row))


async def set_state(connection: Connection, node: Locked, state: State, reason: str | None) -> None:
    """Set a node's state with the reason that its owner reads. A key that was revoked before does not come back with the state."""
    await connection.execute(
        "UPDATE ledger.node SET state = %(state)s, state_reason = %(reason)s, changed_at = clock_timestamp(), "
        "public_key = CASE WHEN state IN ('revoked', 'deregistered') THEN NULL ELSE public_key END WHERE id = %(node)s",
        {"state": state, "reason": reason, "node": node.id},
    )


async def set_audit_percent(connection: Connection, node: Locked, percent: int) -> bool:
    """Set how many of a hundred jobs are audited; answer whether that is new."""
    if percent != node.audit_percent:
        await connection.execute("UPDATE ledger.node SET audit_percent = %s WHERE id = %s", [percent, node.id])
    return percent != node.audit_percent


async def write_step(
    connection: Connection, node: str, step: str, reason: str, *, job: uuid.UUID | None = None, origin: Origin = SYSTEM
) -> None:
    """Write a step into the node's history and into the audit log."""
    await connection.execute(
        "INSERT INTO ledger.node_step (node_id, step, reason, job_id) VALUES (%s, %s, %s, %s)", [node, step, reason, job]
    )
    await note(connection, origin, f"node.{step}", node, reason=reason, **({"job": str(job)} if job else {}))

"""What providers read about their nodes, and operators about everybody's: verdicts, steps with their reasons, strikes, alarms."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from ledger.db import Connection
from ledger.errors import NotFound
from ledger.verification import records, rules
from ledger.verification.appeals import Appeal, newest_appeal
from ledger.verification.records import Record

STEPS_SHOWN = 20
Mark = tuple[datetime, str]
_VERDICT = "v.job_id, v.node_id, v.at, v.is_flagged, v.rule, v.score, v.windows, v.tokens, v.detail, v.model"


@dataclass(frozen=True, slots=True)
class Judged:
    """One audited job."""

    job: uuid.UUID
    node: str
    at: datetime
    is_flagged: bool
    rule: str
    score: float
    windows: int
    tokens: int
    detail: str
    model: str


@dataclass(frozen=True, slots=True)
class Done:
    """A step, and why it was taken."""

    at: datetime
    step: str
    reason: str
    job: uuid.UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found about a node: what it is now and why, the record that counts, one page of verdicts, the last steps, the newest appeal."""

    node: str
    state: str
    state_reason: str | None
    tier: str
    audit_percent: int
    jobs: int
    audited: int
    record: Record
    verdicts: list[Judged]
    steps: list[Done]
    appeal: Appeal | None


@dataclass(frozen=True, slots=True)
class Suspect:
    """A node that operators should look at; strikes and alarms since its last pardon."""

    node: str
    name: str
    owner: str
    state: str
    state_reason: str | None
    tier: str
    strikes: int
    alarms: int
    has_open_appeal: bool
    changed_at: datetime


async def report(connection: Connection, person: uuid.UUID, node: str, limit: int, before: Mark | None) -> Report:
    """Tell a person what was found about a node of theirs, on one snapshot.

    Raises:
        NotFound: The person has no such node.
    """
    if "\0" in node:
        raise NotFound("Node", node[:60])
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor = await connection.execute(
            "SELECT n.state, n.state_reason, n.tier, CASE n.kind WHEN 'edge' THEN n.audit_percent ELSE 0 END, coalesce(w.jobs, 0), "
            "(SELECT count(*) FROM ledger.audit_verdict WHERE node_id = n.id) "
            "FROM ledger.node n LEFT JOIN ledger.node_work w ON w.node_id = n.id WHERE n.id = %s AND n.person_id = %s",
            [node, person],
        )
        row = await cursor.fetchone()
        if row is None:
            raise NotFound("Node", node[:60])
        cursor = await connection.execute(
            "SELECT at, step, reason, job_id FROM ledger.node_step WHERE node_id = %s ORDER BY seq DESC LIMIT %s", [node, STEPS_SHOWN]
        )
        steps = [Done(*step) for step in await cursor.fetchall()]
        state, reason, tier, percent, jobs, audited = row
        return Report(
            node=node, state=state, state_reason=reason, tier=tier, audit_percent=percent, jobs=jobs, audited=audited,
            record=await records.read_record(connection, node), verdicts=await verdicts(connection, limit, before, node=node), steps=steps,
            appeal=await newest_appeal(connection, node),
        )  # fmt: skip


async def verdicts(
    connection: Connection, limit: int, before: Mark | None, *, node: str | None = None, is_flagged: bool | None = None
) -> list[Judged]:
    """List verdicts, newest first."""
    at, id_ = before or (None, None)
    cursor = await connection.execute(
        f"SELECT {_VERDICT} FROM ledger.audit_verdict v WHERE (%(node)s::text IS NULL OR v.node_id = %(node)s) "  # noqa: S608
        "AND (%(flagged)s::boolean IS NULL OR v.is_flagged = %(flagged)s) "
        "AND (%(at)s::timestamptz IS NULL OR (v.at, v.job_id::text) < (%(at)s::timestamptz, %(id)s::text)) "
        "ORDER BY v.at DESC, v.job_id::text DESC LIMIT %(limit)s",
        {"node": node, "flagged": is_flagged, "at": at, "id": id_, "limit": limit},
    )
    return [Judged(*row) for row in await cursor.fetchall()]


async def suspects(connection: Connection, limit: int, before: Mark | None) -> list[Suspect]:
    """List nodes that are in quarantine or banned, have a flag since their last pardon, or an open appeal; the last changed first."""
    at, id_ = before or (None, None)
    cursor = await connection.execute(
        "SELECT n.id, n.name, p.username, n.state, n.state_reason, n.tier, EXISTS (SELECT FROM ledger.appeal a WHERE a.node_id = n.id AND a.state = 'OPEN'), "
        "n.changed_at FROM ledger.node n JOIN ledger.person p ON p.id = n.person_id WHERE (n.state IN ('quarantined', 'banned') "
        "OR EXISTS (SELECT FROM ledger.appeal a WHERE a.node_id = n.id AND a.state = 'OPEN') "
        "OR EXISTS (SELECT FROM ledger.audit_verdict v WHERE v.node_id = n.id AND v.is_flagged AND v.at > coalesce((SELECT max(s.at) FROM ledger.node_step s "
        "WHERE s.node_id = n.id AND s.step = 'pardon'), '-infinity'))) "
        "AND (%(at)s::timestamptz IS NULL OR (n.changed_at, n.id) < (%(at)s::timestamptz, %(id)s::text)) "
        "ORDER BY n.changed_at DESC, n.id DESC LIMIT %(limit)s",
        {"at": at, "id": id_, "limit": limit},
    )
    found = []
    for node, name, owner, state, reason, tier, has_open_appeal, changed_at in await cursor.fetchall():
        record = await records.read_record(connection, node)
        found.append(Suspect(node, name, owner, state, reason, tier, record.strikes, record.alarms, has_open_appeal, changed_at))
    return found


def what_next(strikes: int, state: str) -> str:
    """Tell a provider what the findings mean for what comes."""
    if state == "banned":
        return "The node is banned. You may appeal."
    if state == "quarantined":
        return "The node gets no jobs until an operator has looked. You may appeal."
    if strikes >= rules.BAN_STRIKES - 1:
        return "One more flag bans the node, and its earnings that were not released are forfeited."
    if strikes:
        return "One more flag among its next audits puts the node into quarantine."
    return "Nothing speaks against this node."

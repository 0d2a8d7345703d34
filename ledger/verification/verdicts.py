"""Verdicts of audits and alarms about counts, and what follows: each in one transaction with all that it causes, and once."""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from ledger.db import Connection, Database
from ledger.errors import NotFound
from ledger.identity.feed import tell_node
from ledger.identity.nodes import State
from ledger.ids import text_of
from ledger.verification import admissions, records, rules
from ledger.verification.admission_rules import WHY_NOT, Outcome, WhyNot
from ledger.verification.forfeiture import forfeit, refund_job
from ledger.verification.notices import tell_owner
from ledger.verification.records import Locked, Record
from ledger.verification.rules import Step

Rule = Literal["A", "B", "count", "none"]
COUNT: Rule = "count"
_KEEP = """
WITH sample AS (DELETE FROM ledger.audit_sample WHERE job_id = %(job)s RETURNING *)
INSERT INTO ledger.audit_verdict (job_id, node_id, is_flagged, rule, score, windows, tokens, detail, model, model_digest, weights_sha256, is_admission)
SELECT job_id, node_id, %(is_flagged)s, %(rule)s, %(score)s, %(windows)s, %(tokens)s, %(detail)s, model, model_digest, weights_sha256, is_admission FROM sample
RETURNING is_admission
"""
REASONS = {
    Step.REAUDIT: "An audit found that this answer does not come from the advertised model. The next jobs are audited too.",
    Step.QUARANTINE: "A second audit found an answer that does not come from the advertised model. The node gets no jobs until an operator has looked.",
    Step.BAN: "A third audit found an answer that does not come from the advertised model. Earnings that were not released are forfeited.",
}
MISCOUNTING = (
    f"The node's own token counts were off in {rules.ALARMS} of {rules.ALARM_JOBS} jobs. It gets no jobs until an operator has looked."
)
TOO_FAST = (
    f"In {rules.TIMINGS} of {rules.ALARM_JOBS} jobs the node was faster than others with its GPU ever are with the same model: "
    "it may serve another model, or tell another GPU."
)
Kind = Literal["count", "timing"]
Asked = Literal["ok", "exists", "unwanted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an audit found. `score` is the worst window's; `detail` is for the provider's eyes; `why_not`: why no rule could judge."""

    job: UUID
    is_flagged: bool
    rule: Rule
    score: float
    windows: int
    tokens: int
    detail: str
    why_not: WhyNot | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """The verdict stands; what the node is now."""

    existed: bool
    node: str
    state: State
    strikes: int


@dataclass(frozen=True, slots=True)
class Alarmed:
    """An alarm is noted, or its node is none that is audited; what the node is now."""

    status: Asked
    alarms: int
    state: str


class Verdicts:
    """Takes verdicts and alarms."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, verdict: Verdict) -> Reported:
        """Keep a verdict, forget the sample, and do what follows for the node. The first verdict of a job counts.

        Raises:
            NotFound: There is no sample of this job, or it was too old.
            DatabaseUnavailable: Whether it took effect is unknown; report the same again.
        """

        async def work(connection: Connection) -> Reported:
            node = await _lock_node_of(connection, verdict.job)
            is_admission = await _keep(connection, verdict)
            record = await records.read_record(connection, node.id)
            if is_admission:
                await admissions.judged(connection, node.id, verdict.job, *_outcome_of(verdict), verdict.detail)
            elif is_admission is not None:
                await _follow(connection, node, verdict, record)
            return Reported(is_admission is None, node.id, await _state(connection, node.id), record.strikes)

        return await self._database.transact(work)

    async def alarm(self, job: UUID, node_id: str, claimed: int, counted: int, kind: Kind) -> Alarmed:
        """Note that a node's own counts of a job were off, or that it was too fast; one too many and it is in quarantine, or paused.

        Raises:
            DatabaseUnavailable: Whether it took effect is unknown; tell it again.
        """

        async def work(connection: Connection) -> Alarmed:
            node = await records.lock(connection, node_id)
            if node is None or node.kind != "edge":
                return Alarmed("unwanted", 0, "unknown" if node is None else node.state)
            is_new = await _note_alarm(connection, node, job, claimed, counted, kind)
            record = await records.read_record(connection, node.id)
            if is_new:
                await (_stop_miscounting if kind == "count" else _pause_too_fast)(connection, node, record, job)
            alarms = record.alarms if kind == "count" else rules.recent_alarms(record.timings_at)
            return Alarmed("ok" if is_new else "exists", alarms, await _state(connection, node.id))

        return await self._database.transact(work)


async def _lock_node_of(connection: Connection, job: UUID) -> Locked:
    cursor = await connection.execute(
        "SELECT node_id FROM ledger.audit_sample WHERE job_id = %(job)s UNION ALL SELECT node_id FROM ledger.audit_verdict WHERE job_id = %(job)s",
        {"job": job},
    )
    row = await cursor.fetchone()
    node = await records.lock(connection, row[0]) if row else None
    if node is None:
        raise NotFound("Audit", text_of("job", job))
    return node


async def _keep(connection: Connection, verdict: Verdict) -> bool | None:
    """Put the verdict in the sample's place, and tell whether it is of a canary before admission; None: there is one already."""
    cursor = await connection.execute(
        _KEEP,
        {
            "job": verdict.job, "is_flagged": verdict.is_flagged, "rule": verdict.rule, "score": verdict.score, "windows": verdict.windows,
            "tokens": verdict.tokens, "detail": verdict.detail,
        },
    )  # fmt: skip
    row = await cursor.fetchone()
    return None if row is None else bool(row[0])


def _outcome_of(verdict: Verdict) -> tuple[Outcome, str]:
    """Tell what a verdict is for a canary, and why it could not be judged."""
    if verdict.is_flagged:
        return "flagged", ""
    if verdict.rule != "none":
        return "passed", ""
    why = verdict.why_not or "unscorable"
    return ("short" if why == "short" else "unjudged"), WHY_NOT[why]


async def _follow(connection: Connection, node: Locked, verdict: Verdict, record: Record) -> None:
    """Do what follows from a new verdict. The feed is told last, for its lock is everybody's."""
    is_changed = False
    if verdict.is_flagged and verdict.rule == COUNT:
        if await _note_alarm(connection, node, verdict.job):
            await _stop_miscounting(connection, node, await records.read_record(connection, node.id), verdict.job)
        return
    if verdict.is_flagged:
        is_changed = await _punish(connection, node, verdict.job, rules.step_after(record.flags))
    percent = rules.audit_percent(node.tier, record.flags)
    if await records.set_audit_percent(connection, node, percent) or is_changed:
        await tell_node(connection, node.id)


async def _punish(connection: Connection, node: Locked, job: UUID, step: Step | None) -> bool:
    """Do a step after a flag; answer whether the node's state changed."""
    if node.state == "banned":  # judged already: this job's consumer gets back what is there
        await refund_job(connection, node, job)
        return False
    if step is None:
        return False
    await records.write_step(connection, node.id, step, REASONS[step], job=job)
    forfeited = None
    if step is Step.QUARANTINE:
        await records.set_state(connection, node, "quarantined", REASONS[step])
    elif step is Step.BAN:
        await records.set_state(connection, node, "banned", REASONS[step])
        forfeited = await forfeit(connection, node)
    await tell_owner(connection, node, step.value, REASONS[step], job=job, amount=forfeited)
    return step is not Step.REAUDIT


async def _note_alarm(
    connection: Connection, node: Locked, job: UUID, claimed: int | None = None, counted: int | None = None, kind: Kind = "count"
) -> bool:
    """Write an alarm down; False: there is one of this job and kind already."""
    cursor = await connection.execute(
        "INSERT INTO ledger.count_alarm (job_id, node_id, claimed, counted, kind, jobs) SELECT %(job)s, %(node)s, %(claimed)s::int, %(counted)s::int, %(kind)s, "
        "coalesce((SELECT jobs FROM ledger.node_work WHERE node_id = %(node)s), 0) ON CONFLICT (job_id, kind) DO NOTHING",
        {"job": job, "node": node.id, "claimed": claimed, "counted": counted, "kind": kind},
    )
    return bool(cursor.rowcount)


async def _stop_miscounting(connection: Connection, node: Locked, record: Record, job: UUID) -> None:
    """Put a node into quarantine whose own counts are too often off."""
    if rules.is_miscounting(record.alarms_at) and node.state not in {"quarantined", "banned"}:
        await records.write_step(connection, node.id, Step.QUARANTINE, MISCOUNTING, job=job)
        await records.set_state(connection, node, "quarantined", MISCOUNTING)
        await tell_owner(connection, node, "quarantine", MISCOUNTING, job=job)
        await tell_node(connection, node.id)


async def _pause_too_fast(connection: Connection, node: Locked, record: Record, job: UUID) -> None:
    """Pause a node that is too often faster than its card can be: it is a suspicion only, so its owner may resume it."""
    if rules.is_too_fast(record.timings_at) and node.state == "active":
        await records.write_step(connection, node.id, "pause", TOO_FAST, job=job)
        await records.set_state(connection, node, "paused", TOO_FAST)
        await tell_owner(connection, node, "pause", TOO_FAST, job=job)
        await tell_node(connection, node.id)


async def _state(connection: Connection, node: str) -> State:
    row = await (await connection.execute("SELECT state FROM ledger.node WHERE id = %s", [node])).fetchone()
    assert row is not None
    state: State = row[0]
    return state

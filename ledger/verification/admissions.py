"""Admissions of models on edge nodes: which canaries are to be sent, what came of them, and what a model is therefore.

Whoever changes a model's admission has locked its node, so that two answers of one moment come one after the other. The feed is told last.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from ledger.db import Connection, Database
from ledger.identity.feed import tell_admission
from ledger.ids import new_uuid7
from ledger.verification import records
from ledger.verification.admission_rules import RETRY_AFTER, WHY_NOT, Decision, Kind, Outcome, Progress, State, WhyNot, decide, next_kinds
from ledger.verification.samples import Sample, keep

LEASE_S = 240  # longer than a canary may take at Serve
MOST_MODELS = 200  # of a node, with all the weights that it ever had; the one that changed first goes
SENT = "c.state = 'sent' AND c.leased_until >= clock_timestamp()"
_ROW = """
SELECT a.base, a.passed, a.unjudged, a.short, a.failed, a.flagged,
  (SELECT count(*) FROM ledger.canary c WHERE (c.node_id, c.model, c.digest) = (a.node_id, a.model, a.digest) AND c.state IN ('sent', 'answered')),
  EXISTS (SELECT FROM ledger.canary c WHERE (c.node_id, c.model, c.digest) = (a.node_id, a.model, a.digest) AND c.at >= a.round_at AND c.kind = 'long'
          AND c.state NOT IN ('failed', 'short')),
  a.node_id, a.model, a.digest, a.state, a.said, a.why, a.first_token_s, a.tokens_per_s, a.again_at, coalesce(a.again_at <= clock_timestamp(), false)
FROM ledger.admission a WHERE a.node_id = ANY (%(nodes)s) ORDER BY a.changed_at DESC
"""
_SPEED = """
UPDATE ledger.admission a SET first_token_s = s.first, tokens_per_s = s.speed FROM (
  SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY c.first_token_s) AS first, percentile_cont(0.5) WITHIN GROUP (ORDER BY c.tokens_per_s) AS speed
  FROM ledger.canary c WHERE c.node_id = %(node)s AND c.model = %(model)s AND c.digest = %(digest)s AND c.kind <> 'long') s
WHERE a.node_id = %(node)s AND a.model = %(model)s AND a.digest = %(digest)s
"""
_COUNT: dict[Outcome, str] = {
    outcome: f"UPDATE ledger.admission SET {outcome} = {outcome} + 1, why = CASE %(why)s WHEN '' THEN why ELSE %(why)s END "  # noqa: S608
    "WHERE node_id = %(node)s AND model = %(model)s AND digest = %(digest)s"
    for outcome in ("passed", "unjudged", "short", "failed", "flagged")
}
Key = tuple[str, str]  # model and the digest of its weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A model that a node offers now, and how many of its slots are free."""

    node: str
    model: str
    digest: str
    slots: int
    free: int


@dataclass(frozen=True, slots=True)
class Canary:
    """A canary to be sent, leased for `LEASE_S`."""

    id: UUID
    node: str
    model: str
    digest: str
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a canary: the node took nothing, why it failed, or its figures, and the sample that an auditor judges or why there is none."""

    id: UUID
    was_sent: bool = True
    failure: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token_s: float | None = None
    tokens_per_s: float | None = None
    sample: Sample | None = None
    why_not: WhyNot = "no_auditor"

    @property
    def state(self) -> str:
        """What its canary is now."""
        if self.failure:
            return "failed"
        return "answered" if self.sample else "unjudged"


@dataclass(frozen=True, slots=True)
class Admission:
    """A model of a node. `again_at`: when a refused one is tested again; `is_due`: that time has come."""

    progress: Progress
    node: str
    model: str
    digest: str
    state: State
    said: str
    why: str
    first_token_s: float | None
    tokens_per_s: float | None
    again_at: datetime | None
    is_due: bool

    @property
    def key(self) -> Key:
        """What it is known by on its node."""
        return self.model, self.digest


Reported = Literal["ok", "exists", "unknown"]


class Admissions:
    """Gives canaries out and takes their answers. `canaries`: of a round; 0: every model is admitted."""

    def __init__(self, database: Database, canaries: int) -> None:
        self._database, self._canaries = database, canaries

    async def take(self, offers: Sequence[Offer], nodes: int) -> list[Canary]:
        """Lease what is to be sent now to at most so many of these nodes: of each one canary, or two that run at once. No two callers get the same.

        Raises:
            DatabaseUnavailable: Whether something was leased is unknown; it comes back when its lease ends.
        """
        if not self._canaries:
            return []
        by_node: dict[str, list[Offer]] = {}
        for offer in offers:
            by_node.setdefault(offer.node, []).append(offer)

        async def work(connection: Connection) -> list[Canary]:
            taken: list[Canary] = []
            changed: list[tuple[str, Key]] = []
            for node in await _lock_idle(connection, list(by_node), nodes):
                taken += await self._turn(connection, node, by_node[node], changed)
            for node, key in changed:
                await tell_admission(connection, node, *key)
            return taken

        return await self._database.transact(work)

    async def _turn(self, connection: Connection, node: str, offers: Iterable[Offer], changed: list[tuple[str, Key]]) -> list[Canary]:
        """Choose what a locked node gets next: its models one after another, those that fail after the others."""
        if await _is_busy(connection, node):
            return []
        await _give_up(connection, node)
        known = await read(connection, node)
        failed = {key: one.progress.failed for key, one in known.items()}
        for offer in sorted(offers, key=lambda offer: failed.get((offer.model, offer.digest), 0)):
            key = offer.model, offer.digest
            found = known.get(key)
            if found is None:
                found = await self._begin(connection, node, key)
                changed.append((node, key))
            elif found.state == "refused" and found.is_due:
                found = await self._begin_again(connection, node, key)
                changed.append((node, key))
            if found.state == "testing" and (kinds := next_kinds(found.progress, offer.slots, offer.free)):
                return [await _send(connection, node, key, kind) for kind in kinds]
        return []

    async def _begin(self, connection: Connection, node: str, key: Key) -> Admission:
        await connection.execute(
            "DELETE FROM ledger.admission WHERE (node_id, model, digest) IN (SELECT node_id, model, digest FROM ledger.admission WHERE node_id = %s "
            "ORDER BY changed_at DESC OFFSET %s)",
            [node, MOST_MODELS - 1],
        )
        await connection.execute(
            "INSERT INTO ledger.admission (node_id, model, digest, state, said, base) VALUES (%s, %s, %s, 'testing', %s, %s)",
            [node, *key, decide(Progress(base=self._canaries), "").said, self._canaries],
        )
        return (await read(connection, node))[key]

    async def _begin_again(self, connection: Connection, node: str, key: Key) -> Admission:
        """Begin a new round after a failed one; a flag of an earlier round stays."""
        await connection.execute(
            "UPDATE ledger.admission SET state = 'testing', base = %s, passed = 0, unjudged = 0, short = 0, failed = 0, again_at = NULL, "
            "round_at = clock_timestamp(), changed_at = clock_timestamp() WHERE node_id = %s AND model = %s AND digest = %s",
            [self._canaries, node, *key],
        )
        found = (await read(connection, node))[key]
        await _write(connection, node, key, decide(found.progress, found.why))
        return found

    async def of_nodes(self, nodes: Sequence[str]) -> dict[str, list[Admission]]:
        """Tell of the models of nodes, the last changed first; of no node where every model is admitted.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        found: dict[str, list[Admission]] = {node: [] for node in nodes}
        if self._canaries:
            for one in await self._database.run(lambda connection: read_all(connection, nodes)):
                found[one.node].append(one)
        return found

    async def report(self, answer: Answer) -> Reported:
        """Take what came of a canary; the first word counts. One that nobody waits for any more is unknown, and was sent again.

        Raises:
            DatabaseUnavailable: Whether it took effect is unknown; report the same again.
        """

        async def work(connection: Connection) -> Reported:
            found = await (await connection.execute("SELECT node_id FROM ledger.canary WHERE job_id = %s", [answer.id])).fetchone()
            node = await records.lock(connection, found[0]) if found else None
            if node is None:
                return "unknown"
            if not answer.was_sent:
                await connection.execute("DELETE FROM ledger.canary WHERE job_id = %s AND state = 'sent'", [answer.id])
                return "ok"
            moved = await _move(connection, answer)
            if moved is None:
                return "exists"
            await _take_in(connection, node.id, moved, answer)
            await connection.execute(_SPEED, {"node": node.id, "model": moved[0], "digest": moved[1]})
            await _follow(connection, node.id, moved)
            await tell_admission(connection, node.id, *moved)
            return "ok"

        return await self._database.transact(work)


# --- the verdict on a canary, and a pardon: in the caller's transaction, who locked the node -----------------------------------------------


async def judged(connection: Connection, node: str, job: UUID, outcome: Outcome, why: str, detail: str) -> None:
    """Take an auditor's verdict on a canary's answer."""
    cursor = await connection.execute(
        "UPDATE ledger.canary SET state = %s, detail = %s WHERE job_id = %s AND state = 'answered' RETURNING model, digest",
        [outcome, detail, job],
    )
    row = await cursor.fetchone()
    if row is None:
        return
    key: Key = (row[0], row[1])
    await _count(connection, node, key, outcome, why)
    if outcome == "flagged":
        await records.write_step(connection, node, "retest", f"{key[0]}: a canary was answered otherwise than this model answers.", job=job)
    await _follow(connection, node, key)
    await tell_admission(connection, node, *key)


async def forgive(connection: Connection, node: str) -> None:
    """Test a node's refused models from the beginning: it was pardoned."""
    cursor = await connection.execute(
        "UPDATE ledger.admission SET state = 'testing', passed = 0, unjudged = 0, short = 0, failed = 0, flagged = 0, again_at = NULL, "
        "round_at = clock_timestamp(), changed_at = clock_timestamp() WHERE node_id = %s AND state = 'refused' RETURNING model, digest",
        [node],
    )
    keys: list[Key] = [(model, digest) for model, digest in await cursor.fetchall()]
    known = await read(connection, node)
    for key in keys:
        await _write(connection, node, key, decide(known[key].progress, ""))
    for key in keys:
        await tell_admission(connection, node, *key)


async def has_refused(connection: Connection, node: str) -> bool:
    """Tell whether a model of a node was refused for good."""
    cursor = await connection.execute(
        "SELECT 1 FROM ledger.admission WHERE node_id = %s AND state = 'refused' AND again_at IS NULL LIMIT 1", [node]
    )
    return await cursor.fetchone() is not None


async def read(connection: Connection, node: str) -> Mapping[Key, Admission]:
    """Read all of a node's, the last changed first."""
    return {one.key: one for one in await read_all(connection, [node])}


async def read_all(connection: Connection, nodes: Sequence[str]) -> list[Admission]:
    """Read all of these nodes', the last changed first."""
    cursor = await connection.execute(_ROW, {"nodes": list(nodes)})
    return [Admission(Progress(*row[:8]), *row[8:]) for row in await cursor.fetchall()]


# --- pieces --------------------------------------------------------------------------------------------------------------------------------


async def _lock_idle(connection: Connection, nodes: list[str], most: int) -> list[str]:
    """Lock nodes that may get a canary, without waiting for anybody; another caller's are left out."""
    cursor = await connection.execute(
        f"SELECT n.id FROM ledger.node n WHERE n.id = ANY (%s) AND n.kind = 'edge' AND n.state = 'active' "  # noqa: S608
        f"AND NOT EXISTS (SELECT FROM ledger.canary c WHERE c.node_id = n.id AND {SENT}) LIMIT %s FOR NO KEY UPDATE OF n SKIP LOCKED",
        [nodes, most],
    )
    return [node for (node,) in await cursor.fetchall()]


async def _is_busy(connection: Connection, node: str) -> bool:
    """Look again with the lock: another caller may have been here since the statement that took it began."""
    cursor = await connection.execute(f"SELECT 1 FROM ledger.canary c WHERE c.node_id = %s AND {SENT} LIMIT 1", [node])  # noqa: S608
    return await cursor.fetchone() is not None


async def _give_up(connection: Connection, node: str) -> None:
    """Forget canaries of which nothing will be heard: their lease ended, or their sample is gone and nobody judged it. Others are sent in their place."""
    await connection.execute(
        "DELETE FROM ledger.canary c WHERE c.node_id = %s AND (c.state = 'sent' AND c.leased_until < clock_timestamp() "
        "OR c.state = 'answered' AND NOT EXISTS (SELECT FROM ledger.audit_sample s WHERE s.job_id = c.job_id))",
        [node],
    )


async def _send(connection: Connection, node: str, key: Key, kind: Kind) -> Canary:
    canary = Canary(new_uuid7(), node, *key, kind)
    await connection.execute(
        "INSERT INTO ledger.canary (job_id, node_id, model, digest, kind, leased_until) "
        "VALUES (%s, %s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s))",
        [canary.id, node, *key, kind, LEASE_S],
    )
    return canary


async def _move(connection: Connection, answer: Answer) -> Key | None:
    """Write an answer down, once; None: it was before."""
    cursor = await connection.execute(
        "UPDATE ledger.canary SET state = %s, prompt_tokens = %s, completion_tokens = %s, first_token_s = %s, tokens_per_s = %s, detail = %s "
        "WHERE job_id = %s AND state = 'sent' RETURNING model, digest",
        [
            answer.state,
            answer.prompt_tokens,
            answer.completion_tokens,
            answer.first_token_s,
            answer.tokens_per_s,
            answer.failure,
            answer.id,
        ],
    )
    row = await cursor.fetchone()
    return None if row is None else (row[0], row[1])


async def _take_in(connection: Connection, node: str, key: Key, answer: Answer) -> None:
    """Count what failed or cannot be judged, and keep the rest for the auditor."""
    if answer.failure:
        await _count(connection, node, key, "failed", answer.failure)
    elif answer.sample is None:
        await _count(connection, node, key, "unjudged", WHY_NOT[answer.why_not])
    elif await keep(connection, answer.sample, is_admission=True) != "ok":  # too many wait for their audit: another one is sent later
        await connection.execute("DELETE FROM ledger.canary WHERE job_id = %s", [answer.id])


async def _count(connection: Connection, node: str, key: Key, outcome: Outcome, why: str) -> None:
    await connection.execute(_COUNT[outcome].encode(), {"node": node, "model": key[0], "digest": key[1], "why": why})


async def _follow(connection: Connection, node: str, key: Key) -> None:
    """Decide anew. What is admitted stays so: what is found later is found by audits; a refusal for good ends one for now."""
    found = (await read(connection, node))[key]
    decision = decide(found.progress, found.why)
    if found.state == "admitted" or (found.state == "refused" and not (decision.is_final and found.again_at is not None)):
        return
    await _write(connection, node, key, decision)
    if decision.state == "admitted" or decision.is_final:
        step = "admit" if decision.state == "admitted" else "not_admitted"
        await records.write_step(connection, node, step, f"{key[0]}: {decision.said}")


async def _write(connection: Connection, node: str, key: Key, decision: Decision) -> None:
    again_s = None if decision.state != "refused" or decision.is_final else RETRY_AFTER.total_seconds()
    await connection.execute(
        "UPDATE ledger.admission SET state = %s, said = %s, again_at = clock_timestamp() + make_interval(secs => %s), changed_at = clock_timestamp() "
        "WHERE node_id = %s AND model = %s AND digest = %s",
        [decision.state, decision.said, again_s, node, *key],
    )

"""Samples that wait for their audit: offered by Serve, taken by the auditor, gone with the verdict and after three days at the latest."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from ledger.db import Connection, Database

KEPT_HOURS = 71  # 72 are promised (security reference 6.3); the hour is for a ledger that is down
LEASE_S = 600
MAX_WAITING = 4_000  # samples; of 256 KiB each at most
MAX_WAITING_OF_NODE = 200
Offered = Literal["ok", "exists", "full", "unwanted"]

_OFFER = """
INSERT INTO ledger.audit_sample (job_id, node_id, model, model_digest, weights_sha256, rule_inputs, sealed, is_admission)
SELECT %(job)s, %(node)s, %(model)s, %(model_digest)s, %(weights_sha256)s, %(rule_inputs)s, %(sealed)s, %(is_admission)s
WHERE (SELECT count(*) FROM ledger.audit_sample) < %(most)s AND (SELECT count(*) FROM ledger.audit_sample WHERE node_id = %(node)s) < %(most_of_node)s
ON CONFLICT (job_id) DO NOTHING
"""
# Nodes with a flag first, for each of them may be cheating now; a node in quarantine earns nothing meanwhile, so that it waits for nobody.
_TAKE = """
WITH chosen AS (
  SELECT s.job_id FROM ledger.audit_sample s WHERE coalesce(s.leased_until, '-infinity') < clock_timestamp()
    AND s.wanted_at > clock_timestamp() - make_interval(hours => %(kept)s)
  ORDER BY EXISTS (SELECT FROM ledger.audit_verdict v WHERE v.node_id = s.node_id AND v.is_flagged AND v.at > clock_timestamp() - interval '30 days') DESC,
    s.wanted_at, s.job_id LIMIT %(limit)s FOR UPDATE OF s SKIP LOCKED)
UPDATE ledger.audit_sample s SET leased_until = clock_timestamp() + make_interval(secs => %(lease)s) FROM chosen, ledger.node n
WHERE s.job_id = chosen.job_id AND n.id = s.node_id
RETURNING s.job_id, s.node_id, n.public_key, s.model, s.model_digest, s.weights_sha256, s.rule_inputs, s.sealed, s.wanted_at
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What Serve offers. `sealed`: prompt and answer, readable for the auditor alone; `rule_inputs`: small JSON without a word of them."""

    job: UUID
    node: str
    model: str
    model_digest: str
    weights_sha256: str
    rule_inputs: dict[str, Any]
    sealed: str


@dataclass(frozen=True, slots=True)
class Task:
    """A sample on its way to the auditor; `node_key` is the node's public key."""

    job: UUID
    node: str
    node_key: str | None
    model: str
    model_digest: str
    weights_sha256: str
    rule_inputs: dict[str, Any]
    sealed: str
    wanted_at: datetime


class Samples:
    """Keeps samples."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def offer(self, sample: Sample) -> Offered:
        """Keep a sample, unless there is one of this job, or a verdict, or nobody wants it, or too many wait.

        Raises:
            DatabaseUnavailable: Whether it is kept is unknown; offer it again.
        """
        return await self._database.run(lambda connection: keep(connection, sample))

    async def take(self, limit: int) -> list[Task]:
        """Lease the most urgent samples for `LEASE_S`; several auditors never get the same.

        Raises:
            DatabaseUnavailable: The database does not answer; what was leased meanwhile comes back when its lease ends.
        """

        async def work(connection: Connection) -> list[Task]:
            cursor = await connection.execute(_TAKE, {"kept": KEPT_HOURS, "limit": limit, "lease": LEASE_S})
            return sorted((Task(*row) for row in await cursor.fetchall()), key=lambda task: task.wanted_at)

        return await self._database.run(work)

    async def forget_old(self) -> int:
        """Forget samples that nobody audited in time; answer how many.

        Raises:
            DatabaseUnavailable: The database does not answer; the next round does it.
        """

        async def work(connection: Connection) -> int:
            cursor = await connection.execute(
                "DELETE FROM ledger.audit_sample WHERE wanted_at < clock_timestamp() - make_interval(hours => %s)", [KEPT_HOURS]
            )
            return cursor.rowcount

        return await self._database.run(work)


async def keep(connection: Connection, sample: Sample, *, is_admission: bool = False) -> Offered:
    """Keep a sample, as `Samples.offer` says; `is_admission`: of a canary before its model is admitted."""
    if not await _is_audited(connection, sample.node):
        return "unwanted"
    if await _is_known(connection, sample.job):
        return "exists"
    cursor = await connection.execute(
        _OFFER,
        {
            "job": sample.job, "node": sample.node, "model": sample.model, "model_digest": sample.model_digest,
            "weights_sha256": sample.weights_sha256, "rule_inputs": Jsonb(sample.rule_inputs), "sealed": sample.sealed,
            "is_admission": is_admission, "most": MAX_WAITING, "most_of_node": MAX_WAITING_OF_NODE,
        },
    )  # fmt: skip
    if cursor.rowcount:
        return "ok"
    return "exists" if await _is_known(connection, sample.job) else "full"


async def _is_audited(connection: Connection, node: str) -> bool:
    """Whether a node is audited at all: the operator's own machines are trusted, a banned one has been judged."""
    cursor = await connection.execute("SELECT 1 FROM ledger.node WHERE id = %s AND kind = 'edge' AND state <> 'banned'", [node])
    return await cursor.fetchone() is not None


async def _is_known(connection: Connection, job: UUID) -> bool:
    cursor = await connection.execute(
        "SELECT 1 FROM ledger.audit_sample WHERE job_id = %(job)s UNION ALL SELECT 1 FROM ledger.audit_verdict WHERE job_id = %(job)s",
        {"job": job},
    )
    return await cursor.fetchone() is not None

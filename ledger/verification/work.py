"""How many jobs nodes were paid for, counted beside the captures, and the tiers that they earn by it."""

from collections import Counter

from ledger.db import Connection, Database
from ledger.identity.feed import tell_node
from ledger.verification import records, rules

MAX_PROMOTED = 200  # nodes in one round
_CANDIDATES = """
SELECT n.id FROM ledger.node n JOIN ledger.node_work w ON w.node_id = n.id WHERE n.kind = 'edge' AND n.state IN ('active', 'paused')
  AND (n.tier = 'probation' AND w.jobs >= %(few)s OR n.tier = 'verified' AND w.jobs >= %(many)s AND n.created_at <= clock_timestamp() - %(age)s)
ORDER BY n.changed_at, n.id LIMIT %(most)s
"""


class Work:
    """Counts paid jobs by node in memory and writes them down now and then: a crash loses some, which only costs a node time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs: Counter[str] = Counter()

    def note(self, node: str) -> None:
        """Count a job."""
        self._jobs[node] += 1

    async def flush(self) -> None:
        """Write down what was counted since the last call, once: what may have been written is not written again.

        Raises:
            DatabaseUnavailable: Whether it was written is unknown.
        """
        counted, self._jobs = sorted(self._jobs.items()), Counter()  # in one order: two processes do not wait for each other crosswise
        if not counted:
            return

        async def work(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO ledger.node_work AS w (node_id, jobs) SELECT * FROM unnest(%s::text[], %s::bigint[]) "
                "ON CONFLICT (node_id) DO UPDATE SET jobs = w.jobs + excluded.jobs",
                [[node for node, _ in counted], [jobs for _, jobs in counted]],
            )

        await self._database.transact(work)


async def promote(database: Database) -> int:
    """Raise the tiers of nodes that earned it; answer how many rose.

    Raises:
        DatabaseUnavailable: The database does not answer; the next round does the rest.
    """

    async def candidates(connection: Connection) -> list[str]:
        cursor = await connection.execute(
            _CANDIDATES, {"few": rules.PROBATION_JOBS, "many": rules.VERIFIED_JOBS, "age": rules.VERIFIED_AGE, "most": MAX_PROMOTED}
        )
        return [node for (node,) in await cursor.fetchall()]

    risen = 0
    for node in await database.run(candidates):
        risen += await database.transact(lambda connection, node=node: _promote_one(connection, node))  # type: ignore[misc]
    return risen


async def _promote_one(connection: Connection, id_: str) -> bool:
    node = await records.lock(connection, id_)
    assert node is not None  # nodes stay for ever
    record = await records.read_record(connection, id_)
    cursor = await connection.execute(
        "SELECT w.jobs, clock_timestamp() - n.created_at FROM ledger.node n JOIN ledger.node_work w ON w.node_id = n.id WHERE n.id = %s",
        [id_],
    )
    row = await cursor.fetchone()
    assert row is not None
    tier = rules.tier_of(node.tier, row[0], row[1], record.flags)
    if tier == node.tier:
        return False
    await connection.execute("UPDATE ledger.node SET tier = %s, changed_at = clock_timestamp() WHERE id = %s", [tier, id_])
    await records.set_audit_percent(connection, node, rules.audit_percent(tier, record.flags))
    await records.write_step(
        connection, id_, "promote", f"The node is {tier} now: it served {row[0]} jobs, and no audit speaks against it."
    )
    await tell_node(connection, id_)
    return True

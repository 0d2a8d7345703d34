"""The change feed: what other services must know of the ledger's truth soon, in one sequence without gaps.

`ledger.tell` numbers an entry under a lock that is kept until its transaction ends: whoever read entry n has been able to read all before
it. So `tell` comes last in its transaction, that nobody waits for more than a commit. Whoever knows nothing, or less than is kept, gets
the whole state of now instead, written as entries of the same kinds.
"""

from dataclasses import replace
from typing import Any, Literal

from psycopg.types.json import Jsonb

from ledger.db import Connection, Database
from ledger.identity.agent_proofs import thumbprint
from ledger.ids import text_of
from ledger.wire import FeedEntry, FeedPage

Kind = Literal["key_revoked", "session_revoked", "person_blocked", "node", "price", "model", "admission"]
KEPT_DAYS = 7
MAX_ENTRIES = 1000
_NODE = "SELECT n.id, n.person_id, n.kind, n.state, n.tier, n.public_key, n.name, p.username, n.audit_percent FROM ledger.node n JOIN ledger.person p ON p.id = n.person_id"
_PAGE = """
WITH kept AS (SELECT min(seq) AS first, max(seq) AS last FROM ledger.feed)
SELECT coalesce(kept.first, 1), coalesce(kept.last, 0), e.seq, e.kind, e.subject, e.detail
FROM kept LEFT JOIN (SELECT * FROM ledger.feed WHERE seq > %s ORDER BY seq LIMIT %s) e ON true ORDER BY e.seq
"""  # one statement, hence one snapshot: a clean-up meanwhile cannot open a gap
_ADMISSION = (
    "SELECT a.node_id, jsonb_build_object('model', a.model, 'digest', a.digest, 'state', a.state, 'said', a.said, "
    "'is_final', a.state = 'refused' AND a.again_at IS NULL) FROM ledger.admission a"
)
_STATE: dict[Kind, str] = {
    "key_revoked": "SELECT id, '{}'::jsonb FROM ledger.api_key WHERE revoked_at IS NOT NULL AND coalesce(expires_at, 'infinity') > clock_timestamp()",
    "session_revoked": "SELECT id::text, '{}'::jsonb FROM ledger.session WHERE revoked_at IS NOT NULL AND expires_at > clock_timestamp()",
    "price": "SELECT DISTINCT ON (model) coalesce(model, ''), jsonb_build_object('version', version, 'flat', flat, 'prompt_per_million', "
    "prompt_per_million, 'completion_per_million', completion_per_million) FROM ledger.price ORDER BY model, version DESC",
    "model": "SELECT name, jsonb_build_object('digest', digest, 'source', source, 'license', license, 'size_bytes', size_bytes, "
    "'context_tokens', context_tokens) FROM ledger.catalog_model",
    "admission": f"{_ADMISSION} JOIN ledger.node n ON n.id = a.node_id WHERE n.state <> 'deregistered'",
}


async def tell(connection: Connection, kind: Kind, subject: str, /, **detail: Any) -> int:
    """Add an entry, last in the transaction of the change that it tells of; answer its number."""
    cursor = await connection.execute("SELECT ledger.tell(%s, %s, %s)", [kind, subject, Jsonb(detail)])
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def tell_node(connection: Connection, node: str) -> None:
    """Tell what a node is now."""
    cursor = await connection.execute(f"{_NODE} WHERE n.id = %s", [node])
    for row in await cursor.fetchall():
        subject, detail = _node(row)
        await tell(connection, "node", subject, **detail)


async def tell_admission(connection: Connection, node: str, model: str, digest: str) -> None:
    """Tell whether a model of a node is admitted now."""
    cursor = await connection.execute(f"{_ADMISSION} WHERE (a.node_id, a.model, a.digest) = (%s, %s, %s)", [node, model, digest])
    for subject, detail in await cursor.fetchall():
        await tell(connection, "admission", subject, **detail)


def _node(row: tuple[Any, ...]) -> tuple[str, dict[str, Any]]:
    """Write a node for the feed.

    `key` is the thumbprint that its tokens must carry, so that a replaced key is cut too; receipts are checked by `public_key`;
    `audit_percent` says how many of a hundred of its jobs are to be audited: none where the operator is trusted anyway.
    """
    id_, person, kind, state, tier, public_key, name, username, audit_percent = row
    key = thumbprint(public_key) if public_key else None
    return id_, {
        "owner": text_of("user", person), "kind": kind, "state": state, "tier": tier, "key": key, "public_key": public_key, "name": name,
        "username": username, "audit_percent": audit_percent if kind == "edge" else 0,
    }  # fmt: skip


class Feed:
    """Reads the feed, and forgets what is old. `has_admission`: whether models of edge nodes are tested before they get paid jobs."""

    def __init__(self, database: Database, *, has_admission: bool = False) -> None:
        self._database, self._has_admission = database, has_admission

    async def read(self, after: int | None, limit: int = MAX_ENTRIES) -> FeedPage:
        """Tell what was added after an entry; `None` knows nothing yet and gets the state of now.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        return replace(await self._read(after, limit), has_admission=self._has_admission)

    async def _read(self, after: int | None, limit: int) -> FeedPage:
        if after is None:
            return await self._database.run(_state)

        async def query(connection: Connection) -> FeedPage:
            rows = await (await connection.execute(_PAGE, [after, limit])).fetchall()
            first, last = rows[0][:2]
            if not first - 1 <= after <= last:  # cleaned up since, or from before a backup was restored
                return await _state(connection)
            entries = tuple(FeedEntry(*row[2:]) for row in rows if row[2] is not None)
            return FeedPage(entries[-1].seq if entries else after, False, entries)

        return await self._database.run(query)

    async def clean(self) -> int:
        """Forget entries older than `KEPT_DAYS`; the last one stays, for it holds the number. Answer how many went.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """

        async def delete(connection: Connection) -> int:
            cursor = await connection.execute(
                "DELETE FROM ledger.feed WHERE seq < coalesce((SELECT min(seq) FROM ledger.feed "
                "WHERE at >= clock_timestamp() - make_interval(days => %s)), (SELECT max(seq) FROM ledger.feed))",
                [KEPT_DAYS],
            )
            return cursor.rowcount

        return await self._database.run(delete)


async def _state(connection: Connection) -> FeedPage:
    """Read the whole state and the number of the last entry in it, in one snapshot."""
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = await (await connection.execute("SELECT coalesce(max(seq), 0) FROM ledger.feed")).fetchone()
        assert row is not None
        found: list[tuple[Kind, str, dict[str, Any]]] = []
        for kind, query in _STATE.items():
            found += [(kind, subject, detail) for subject, detail in await (await connection.execute(query)).fetchall()]
        blocked = await connection.execute("SELECT id FROM ledger.person WHERE blocked_at IS NOT NULL")
        found += [("person_blocked", text_of("user", person), {}) for (person,) in await blocked.fetchall()]
        found += [("node", *_node(node)) for node in await (await connection.execute(_NODE)).fetchall()]
    return FeedPage(row[0], True, tuple(FeedEntry(row[0], *one) for one in found))

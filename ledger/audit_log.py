"""The audit log: who did what to whom, from where. Append-only; blocks are sealed with a hash chain after the fact, out of every request's way."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from ledger.db import Connection

SEAL_LOCK = "ledger audit seal"
BLOCK = 10_000
_GENESIS = b"\x00" * 32


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from."""

    actor: str  # user_…, or `system`, `cli`, `gateway:<name>`
    address: str | None = None
    request_id: str | None = None
    program: str | None = None  # what it called itself; kept with a sign-in, not in the log

    def by(self, actor: str) -> "Origin":
        """The same request, when it is known who made it."""
        return replace(self, actor=actor)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line as stored."""

    seq: int
    at: datetime
    actor: str
    action: str
    target: str
    address: str | None
    request_id: str | None
    detail: dict[str, Any] = field(default_factory=dict)

    def digest(self) -> bytes:
        """Digest everything the line says."""
        said = [self.seq, self.at.isoformat(), self.actor, self.action, self.target, self.address, self.request_id, self.detail]
        return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).digest()


async def note(connection: Connection, origin: Origin, action: str, target: str, **detail: Any) -> None:
    """Write a line, in the transaction of what it tells of. `detail` holds no secret."""
    await connection.execute(
        "INSERT INTO ledger.audit_log (actor, action, target, address, request_id, detail) VALUES (%s, %s, %s, %s, %s, %s)",
        [origin.actor, action, target, origin.address, origin.request_id, Jsonb(detail)],
    )


def sealed(before: bytes, lines: Iterable[LogLine]) -> bytes:
    """Chain a block to the hash before it."""
    chain = hashlib.sha256(before)
    for line in lines:
        chain.update(line.digest())
    return chain.digest()


_COLUMNS = "seq, at, actor, action, target, address, request_id, detail"


async def seal(connection: Connection) -> int:
    """Seal what was written since the last seal, older than a minute (a line may commit after one with a later number); answer how much."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [SEAL_LOCK])
        last, before = await _last_seal(connection)
        cursor = await connection.execute(
            f"SELECT {_COLUMNS} FROM ledger.audit_log WHERE seq > %s AND at < clock_timestamp() - interval '1 minute' ORDER BY seq LIMIT {BLOCK}",  # noqa: S608
            [last],
        )
        lines = [LogLine(*row) for row in await cursor.fetchall()]
        if lines:
            await connection.execute(
                "INSERT INTO ledger.audit_seal (last_seq, first_seq, hash) VALUES (%s, %s, %s)",
                [lines[-1].seq, lines[0].seq, sealed(before, lines)],
            )
    return len(lines)


async def read(connection: Connection, limit: int, before: int | None) -> list[LogLine]:
    """Read lines, newest first."""
    cursor = await connection.execute(
        f"SELECT {_COLUMNS} FROM ledger.audit_log WHERE %(before)s::bigint IS NULL OR seq < %(before)s ORDER BY seq DESC LIMIT %(limit)s",  # noqa: S608
        {"before": before, "limit": limit},
    )
    return [LogLine(*row) for row in await cursor.fetchall()]


async def _last_seal(connection: Connection) -> tuple[int, bytes]:
    cursor = await connection.execute("SELECT last_seq, hash FROM ledger.audit_seal ORDER BY last_seq DESC LIMIT 1")
    row = await cursor.fetchone()
    return (row[0], bytes(row[1])) if row else (0, _GENESIS)


async def verify(connection: Connection) -> int | None:
    """Check the whole chain; answer the last line of the first block that does not fit, None when all do."""
    cursor = await connection.execute("SELECT first_seq, last_seq, hash FROM ledger.audit_seal ORDER BY last_seq")
    before, after = _GENESIS, 0
    for _, last, hash_ in await cursor.fetchall():
        rows = await connection.execute(
            f"SELECT {_COLUMNS} FROM ledger.audit_log WHERE seq > %s AND seq <= %s ORDER BY seq",  # noqa: S608
            [after, last],
        )
        if sealed(before, [LogLine(*row) for row in await rows.fetchall()]) != bytes(hash_):
            return int(last)
        before, after = bytes(hash_), last
    return None

"""What operators read of everybody's books: open holds, withdrawals."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.db import Connection, Database

Run = Callable[[Callable[[Connection], Any]], Awaitable[Any]]
Mark = tuple[datetime, str]


@dataclass(frozen=True, slots=True)
class AnyHold:
    """An open hold; `amount` in micro-credits."""

    id: uuid.UUID
    user: str
    model: str
    amount: int
    at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AnyWithdrawal:
    """A withdrawal with its owner's name and how many operators agree; `amount` in micro-credits."""

    id: uuid.UUID
    username: str
    amount: int
    destination: str | None
    status: str
    reason: str | None
    approvals: int
    at: datetime


async def open_holds(database: Database, limit: int, after: Mark | None) -> list[AnyHold]:
    """List open holds, oldest first."""

    async def query(connection: Connection) -> list[AnyHold]:
        at, id_ = after or (None, None)
        cursor = await connection.execute(
            "SELECT id, meta->>'user', coalesce(meta->>'model', ''), amounts[1] + amounts[2], at, expires_at FROM ledger.hold "
            "WHERE %(at)s::timestamptz IS NULL OR (at, id::text) > (%(at)s::timestamptz, %(id)s::text) ORDER BY at, id::text LIMIT %(limit)s",
            {"at": at, "id": id_, "limit": limit},
        )
        return [AnyHold(*row) for row in await cursor.fetchall()]

    return await database.run(query)


async def withdrawals(database: Database, limit: int, before: Mark | None, status: str | None) -> list[AnyWithdrawal]:
    """List withdrawals, newest first."""

    async def query(connection: Connection) -> list[AnyWithdrawal]:
        at, id_ = before or (None, None)
        cursor = await connection.execute(
            "SELECT w.id, p.username, w.amount, w.destination, w.status, w.reason, (SELECT count(*) FROM ledger.approval WHERE subject = w.id), "
            "w.created_at FROM ledger.payment w JOIN ledger.person p ON p.id = w.person_id WHERE w.kind = 'WITHDRAWAL' "
            "AND (%(status)s::text IS NULL OR w.status = %(status)s) "
            "AND (%(at)s::timestamptz IS NULL OR (w.created_at, w.id::text) < (%(at)s::timestamptz, %(id)s::text)) "
            "ORDER BY w.created_at DESC, w.id::text DESC LIMIT %(limit)s",
            {"at": at, "id": id_, "limit": limit, "status": status},
        )
        return [AnyWithdrawal(*row) for row in await cursor.fetchall()]

    return await database.run(query)


async def owner_and_approvals(run: Run, payment: uuid.UUID, person: uuid.UUID) -> tuple[str, int]:
    """Tell the name of a payment's owner and how many operators agree."""

    async def query(connection: Connection) -> tuple[str, int]:
        cursor = await connection.execute(
            "SELECT username, (SELECT count(*) FROM ledger.approval WHERE subject = %s) FROM ledger.person WHERE id = %s", [payment, person]
        )
        row = await cursor.fetchone()
        assert row is not None
        return str(row[0]), int(row[1])

    found: tuple[str, int] = await run(query)
    return found

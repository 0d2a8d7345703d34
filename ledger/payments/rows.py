"""Deposits and withdrawals as stored."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ledger.db import Connection
from ledger.errors import NotFound
from ledger.ids import text_of, uuid_of

CURRENCY = "USD"  # one credit is one dollar
PREFIXES = {"DEPOSIT": "dep", "WITHDRAWAL": "wd"}
COLUMNS = "id, person_id, kind, amount, currency, gateway, gateway_id, checkout_url, destination, status, reason, created_at, ended_at"


@dataclass(frozen=True, slots=True)
class Payment:
    """One deposit or withdrawal; the amount in micro-credits."""

    id: uuid.UUID
    person: uuid.UUID
    kind: Literal["DEPOSIT", "WITHDRAWAL"]
    amount: int
    currency: str
    gateway: str
    gateway_id: str | None
    checkout_url: str | None
    destination: str | None
    status: Literal["PENDING", "SUCCESS", "FAILED"]
    reason: str | None
    created_at: datetime
    ended_at: datetime | None

    @property
    def text_id(self) -> str:
        """The id that people see."""
        return text_of(PREFIXES[self.kind], self.id)


def read_id(text: str) -> uuid.UUID:
    """Read the id of a deposit or a withdrawal.

    Raises:
        NotFound: It has the form of neither.
    """
    for prefix in PREFIXES.values():
        try:
            return uuid_of(prefix, text)
        except ValueError:
            continue
    raise NotFound("Transaction", text[:60])


async def find_payment(connection: Connection, id_: uuid.UUID) -> Payment | None:
    """Read one."""
    cursor = await connection.execute(f"SELECT {COLUMNS} FROM ledger.payment WHERE id = %s", [id_])  # noqa: S608
    row = await cursor.fetchone()
    return Payment(*row) if row else None


async def locked(connection: Connection, id_: uuid.UUID, kind: str) -> Payment:
    """Read one for a change, in the transaction of that change.

    Raises:
        NotFound: There is none of this kind.
    """
    cursor = await connection.execute(f"SELECT {COLUMNS} FROM ledger.payment WHERE id = %s AND kind = %s FOR UPDATE", [id_, kind])  # noqa: S608
    row = await cursor.fetchone()
    if row is None:
        raise NotFound("Transaction", text_of(PREFIXES[kind], id_))
    return Payment(*row)


async def insert(
    connection: Connection, id_: uuid.UUID, person: uuid.UUID, kind: str, amount: int, gateway: str, destination: str | None = None
) -> Payment:
    """Write a new one, PENDING."""
    cursor = await connection.execute(
        f"INSERT INTO ledger.payment (id, person_id, kind, amount, currency, gateway, destination) VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING {COLUMNS}",  # noqa: S608
        [id_, person, kind, amount, CURRENCY, gateway, destination],
    )
    row = await cursor.fetchone()
    assert row is not None
    return Payment(*row)


async def end(connection: Connection, payment: Payment, status: str, reason: str | None = None) -> None:
    """Write how one ended. The caller holds its lock and has judged that it may end so."""
    await connection.execute(
        "UPDATE ledger.payment SET status = %s, reason = %s, ended_at = clock_timestamp() WHERE id = %s", [status, reason, payment.id]
    )


async def newest(connection: Connection, person: uuid.UUID, limit: int, before: uuid.UUID | None) -> list[Payment]:
    """List a person's, newest first (their ids are in the order of their making); `before` is where an earlier page ended."""
    cursor = await connection.execute(
        f"SELECT {COLUMNS} FROM ledger.payment WHERE person_id = %(person)s AND (%(before)s::uuid IS NULL OR id < %(before)s::uuid) "  # noqa: S608
        "ORDER BY id DESC LIMIT %(limit)s",
        {"person": person, "before": before, "limit": limit},
    )
    return [Payment(*row) for row in await cursor.fetchall()]

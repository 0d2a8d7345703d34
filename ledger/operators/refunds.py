"""Refunds: what a capture did, done backwards, once. And goodwill: the platform pays where the provider's earnings are gone already."""

import uuid
from dataclasses import dataclass
from typing import Any

from ledger.audit_log import Origin, note
from ledger.db import Connection, Database
from ledger.errors import InsufficientFunds, NotFound, PaymentEnded
from ledger.ids import text_of
from ledger.money import accounts
from ledger.money.posting import Kind, Post, Status, apply


@dataclass(frozen=True, slots=True)
class Refunded:
    """A refund: its transaction, and what came back in micro-credits."""

    id: uuid.UUID
    amount: int
    existed: bool


async def refund(database: Database, job: uuid.UUID, reason: str, origin: Origin) -> Refunded:
    """Give back what a job cost, from those who were paid for it.

    Raises:
        NotFound: The job was never charged.
        PaymentEnded: It was refunded before, in another way.
        InsufficientFunds: The provider's earnings have left already: correct from `platform:goodwill` instead.
        DatabaseUnavailable: Whether it took effect is unknown; the same refund may be asked for again.
    """

    async def work(connection: Connection) -> Refunded:
        legs, meta = await _backwards(connection, job)
        cost = int(meta.get("cost", 0))
        id_ = uuid.uuid5(job, "refund")
        await note(connection, origin, "refund", text_of("job", job), reason=reason, amount=cost)
        post = Post(
            id=id_,
            kind=Kind.REFUND,
            legs=legs,
            reverses=job,
            meta={"job": text_of("job", job), "model": meta.get("model"), "user": meta.get("user")},
        )
        (status,) = await apply(connection, [post])
        if status is Status.FUNDS:
            raise InsufficientFunds(0, cost)
        if status not in {Status.OK, Status.EXISTS}:
            raise PaymentEnded("refunded")
        return Refunded(id_, cost, status is Status.EXISTS)

    return await database.transact(work)


async def _backwards(connection: Connection, job: uuid.UUID) -> tuple[tuple[tuple[int, int], ...], dict[str, Any]]:
    """Read the credit legs of a capture, each the other way round; the budget stays spent: a refund is not a second chance for a key."""
    cursor = await connection.execute("SELECT coalesce(meta, '{}') FROM ledger.txn WHERE id = %s AND kind = %s", [job, int(Kind.CAPTURE)])
    row = await cursor.fetchone()
    if row is None:
        raise NotFound("Job", text_of("job", job))
    cursor = await connection.execute(
        "SELECT e.account_id, -e.amount FROM ledger.entry e JOIN ledger.account a ON a.id = e.account_id "
        "WHERE e.txn_id = %s AND a.unit = %s ORDER BY e.account_id",
        [job, accounts.CREDIT],
    )
    legs = tuple((int(account), int(amount)) for account, amount in await cursor.fetchall())
    if not legs:
        raise NotFound("Job", text_of("job", job))
    return legs, row[0]

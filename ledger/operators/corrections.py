"""Corrections: an operator moves credits between `platform:goodwill` and somebody's pocket, with a reason; large ones need a second operator."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from ledger.audit_log import Origin, note
from ledger.db import Connection, Database
from ledger.errors import InsufficientFunds, InvalidRequest, NotFound, PaymentEnded
from ledger.ids import new_uuid7, text_of
from ledger.money import accounts
from ledger.money.posting import Kind, Post, Status, apply

Pocket = Literal["promo", "paid", "earned"]
_ADDRESS = {"promo": accounts.promo, "paid": accounts.paid, "earned": accounts.earned}
_COLUMNS = "id, person_id, pocket, amount, reason, proposed_by, state, created_at"


@dataclass(frozen=True, slots=True)
class Correction:
    """One correction; `amount` in micro-credits, negative when it takes."""

    id: uuid.UUID
    person: uuid.UUID
    pocket: Pocket
    amount: int
    reason: str
    proposed_by: uuid.UUID
    state: Literal["PENDING", "POSTED", "REFUSED"]
    created_at: datetime


class Corrections:
    """Proposes, approves, refuses. `alone_up_to`: micro-credits that one operator may move."""

    def __init__(self, database: Database, *, alone_up_to: int) -> None:
        self._database = database
        self._alone_up_to = alone_up_to

    async def propose(self, person: uuid.UUID, pocket: Pocket, amount: int, reason: str, operator: uuid.UUID, origin: Origin) -> Correction:
        """Ask for a correction; a small one is posted at once.

        Raises:
            NotFound: There is no such person.
            InsufficientFunds: The pocket does not hold what is to be taken.
            DatabaseUnavailable: Whether it took effect is unknown: look at the list before asking again.
        """

        async def work(connection: Connection) -> Correction:
            cursor = await connection.execute("SELECT 1 FROM ledger.person WHERE id = %s", [person])
            if await cursor.fetchone() is None:
                raise NotFound("User", text_of("user", person))
            cursor = await connection.execute(
                f"INSERT INTO ledger.correction (id, person_id, pocket, amount, reason, proposed_by) VALUES (%s, %s, %s, %s, %s, %s) RETURNING {_COLUMNS}",  # noqa: S608
                [new_uuid7(), person, pocket, amount, reason, operator],
            )
            made = await _one(cursor)
            await note(
                connection,
                origin,
                "correction.proposed",
                text_of("user", person),
                correction=str(made.id),
                amount=amount,
                pocket=pocket,
                reason=reason,
            )
            if abs(amount) > self._alone_up_to:
                return made
            return await _post(connection, made, origin)

        return await self._database.transact(work)

    async def approve(self, id_: uuid.UUID, operator: uuid.UUID, origin: Origin) -> Correction:
        """Agree as the second operator; it is posted.

        Raises:
            NotFound: There is none.
            InvalidRequest: Nobody approves their own proposal, or credits for themselves.
            PaymentEnded: It is posted or refused already.
            InsufficientFunds: The pocket does not hold what is to be taken.
        """

        async def work(connection: Connection) -> Correction:
            found = await _pending(connection, id_)
            if operator in {found.proposed_by, found.person}:
                raise InvalidRequest("operator", "A second operator has to approve this.")
            await connection.execute("INSERT INTO ledger.approval (subject, person_id) VALUES (%s, %s)", [id_, operator])
            await note(connection, origin, "correction.approved", text_of("user", found.person), correction=str(id_))
            return await _post(connection, found, origin)

        return await self._database.transact(work)

    async def refuse(self, id_: uuid.UUID, origin: Origin) -> Correction:
        """Refuse it.

        Raises:
            NotFound: There is none.
            PaymentEnded: It is posted or refused already.
        """

        async def work(connection: Connection) -> Correction:
            found = await _pending(connection, id_)
            await note(connection, origin, "correction.refused", text_of("user", found.person), correction=str(id_))
            return await _end(connection, id_, "REFUSED")

        return await self._database.transact(work)

    async def list(self, limit: int, before: tuple[datetime, str] | None) -> list[Correction]:
        """List corrections, newest first."""

        async def query(connection: Connection) -> list[Correction]:
            at, id_ = before or (None, None)
            cursor = await connection.execute(
                f"SELECT {_COLUMNS} FROM ledger.correction WHERE %(at)s::timestamptz IS NULL OR (created_at, id::text) < (%(at)s::timestamptz, %(id)s::text) "  # noqa: S608
                "ORDER BY created_at DESC, id::text DESC LIMIT %(limit)s",
                {"at": at, "id": id_, "limit": limit},
            )
            return [Correction(*row) for row in await cursor.fetchall()]

        return await self._database.run(query)


async def _one(cursor: AsyncCursor[TupleRow]) -> Correction:
    row = await cursor.fetchone()
    assert row is not None
    return Correction(*row)


async def _pending(connection: Connection, id_: uuid.UUID) -> Correction:
    cursor = await connection.execute(f"SELECT {_COLUMNS} FROM ledger.correction WHERE id = %s FOR UPDATE", [id_])  # noqa: S608
    row = await cursor.fetchone()
    if row is None:
        raise NotFound("Correction", str(id_))
    found = Correction(*row)
    if found.state != "PENDING":
        raise PaymentEnded(found.state)
    return found


async def _end(connection: Connection, id_: uuid.UUID, state: str) -> Correction:
    cursor = await connection.execute(
        f"UPDATE ledger.correction SET state = %s WHERE id = %s RETURNING {_COLUMNS}",  # noqa: S608
        [state, id_],
    )
    return await _one(cursor)


async def _post(connection: Connection, found: Correction, origin: Origin) -> Correction:
    """Post it, last in the transaction: its accounts stay locked until the commit."""
    ended = await _end(connection, found.id, "POSTED")
    pocket = _ADDRESS[found.pocket](found.person)
    ids = await accounts.open_accounts(connection, [accounts.GOODWILL, pocket])
    post = Post(
        id=uuid.uuid5(found.id, "correction"), kind=Kind.ADJUSTMENT, meta={"reason": found.reason, "by": origin.actor},
        legs=((ids[accounts.GOODWILL], -found.amount), (ids[pocket], found.amount)),
    )  # fmt: skip
    (status,) = await apply(connection, [post])
    if status is Status.FUNDS:
        raise InsufficientFunds(0, abs(found.amount))
    return ended

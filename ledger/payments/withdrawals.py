"""Withdrawals: earnings leave at once for a clearing account, and from there to the world when an operator has paid, or back.

Each step changes the payment's row and posts in one transaction: they cannot disagree, whenever the process dies.
"""

import uuid
from dataclasses import dataclass

from ledger import replies
from ledger.amounts import micros_of
from ledger.audit_log import Origin, note
from ledger.db import Connection
from ledger.errors import InsufficientFunds, InvalidRequest, LedgerUnavailable, PaymentEnded
from ledger.ids import new_uuid7
from ledger.money import accounts
from ledger.money.posting import Kind, Post
from ledger.payments import rows
from ledger.payments.payments import Payments, post
from ledger.payments.rows import Payment

KIND = "WITHDRAWAL"
MOST = 10**15  # micro-credits; more than the books take as one amount, and than anybody has


@dataclass(frozen=True, slots=True)
class Requested:
    """A withdrawal and whether an earlier request with the same Idempotency-Key made it."""

    payment: Payment
    is_replay: bool


async def request(
    payments: Payments, origin: Origin, asked: replies.Request | None, person: uuid.UUID, amount: int, destination: str | None
) -> Requested:
    """Make a withdrawal and move its money out of reach.

    Raises:
        InsufficientFunds: It is more than what the person has earned from deposited credits; nothing was written.
        IdempotencyConflict: The key was used for another request.
        DatabaseUnavailable: The outcome is unknown; send the same request again.
    """
    gateway, id_ = payments.default_gateway, new_uuid7()
    earned, clearing = await _accounts(payments, person, gateway)

    async def insert(connection: Connection) -> Requested:
        if asked is not None and (earlier := await replies.find(connection, asked)):
            found = await rows.find_payment(connection, uuid.UUID(earlier.body["payment"]))
            assert found is not None
            return Requested(found, is_replay=True)
        if amount > MOST:
            raise InsufficientFunds(await _free(connection, earned), amount)
        made = await rows.insert(connection, id_, person, KIND, amount, gateway, destination)
        if asked is not None:
            await replies.keep(connection, asked, replies.Reply(201, {"payment": str(id_)}))
        await note(connection, origin, "withdrawal_requested", made.text_id, amount=amount)
        if not await post(connection, _post(made, id_, Kind.WITHDRAWAL, earned, clearing)):
            raise InsufficientFunds(await _free(connection, earned), amount)
        return Requested(made, is_replay=False)

    return await payments.database.transact(insert)


async def mark_paid(payments: Payments, id_: uuid.UUID, operator: uuid.UUID, origin: Origin) -> Payment:
    """Note that an operator (the caller has checked that) has paid, or agrees: a large one is done when a second operator agrees.

    Raises:
        NotFound: There is no such withdrawal.
        PaymentEnded: It is paid or refused already.
        InvalidRequest: Nobody approves a large withdrawal of their own.
        DatabaseUnavailable: The outcome is unknown; look, then try again.
    """
    world_of = await _world(payments, id_)

    async def write(connection: Connection) -> Payment:
        payment = await _pending(connection, id_)
        if not await _approved(connection, payments, payment, operator):
            await note(connection, origin, "withdrawal_approved", payment.text_id, operator=str(operator))
            return payment
        await rows.end(connection, payment, "SUCCESS")
        await note(connection, origin, "withdrawal_paid", payment.text_id, operator=str(operator), amount=payment.amount)
        ended = await _read(connection, id_)
        await _post_surely(connection, _post(payment, uuid.uuid5(id_, "paid"), Kind.WITHDRAWAL_PAID, *world_of))
        return ended

    return await payments.pay.transact(write)


async def refuse(payments: Payments, id_: uuid.UUID, operator: uuid.UUID, reason: str, origin: Origin) -> Payment:
    """Refuse a withdrawal and give its money back to the earnings.

    Raises:
        NotFound: There is no such withdrawal.
        PaymentEnded: It is paid or refused already.
        DatabaseUnavailable: The outcome is unknown; look, then try again.
    """
    found = await _read_one(payments, id_)
    earned, clearing = await _accounts(payments, found.person, found.gateway)

    async def write(connection: Connection) -> Payment:
        payment = await _pending(connection, id_)
        await rows.end(connection, payment, "FAILED", reason)
        await note(connection, origin, "withdrawal_returned", payment.text_id, operator=str(operator), reason=reason)
        ended = await _read(connection, id_)
        await _post_surely(connection, _post(payment, uuid.uuid5(id_, "returned"), Kind.WITHDRAWAL_RETURNED, clearing, earned))
        return ended

    return await payments.database.transact(write)


async def _approved(connection: Connection, payments: Payments, payment: Payment, operator: uuid.UUID) -> bool:
    """Write down that this operator agrees; True: enough do."""
    is_large = payment.amount > micros_of(payments.settings.withdrawal_second_approval)
    if is_large and operator == payment.person:
        raise InvalidRequest("operator", "Nobody approves a large withdrawal of their own.")
    await connection.execute(
        "INSERT INTO ledger.approval (subject, person_id) VALUES (%s, %s) ON CONFLICT DO NOTHING", [payment.id, operator]
    )
    cursor = await connection.execute("SELECT count(*) FROM ledger.approval WHERE subject = %s", [payment.id])
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0]) >= (2 if is_large else 1)


async def _pending(connection: Connection, id_: uuid.UUID) -> Payment:
    payment = await rows.locked(connection, id_, KIND)
    if payment.status != "PENDING":
        raise PaymentEnded(payment.status)
    return payment


async def _read(connection: Connection, id_: uuid.UUID) -> Payment:
    return await rows.locked(connection, id_, KIND)


async def _read_one(payments: Payments, id_: uuid.UUID) -> Payment:
    return await payments.database.run(lambda connection: _read(connection, id_))


def _post(payment: Payment, id_: uuid.UUID, kind: Kind, source: int, target: int) -> Post:
    meta = {"payment": str(payment.id), "gateway": payment.gateway}
    return Post(id=id_, kind=kind, meta=meta, legs=((source, -payment.amount), (target, payment.amount)))


async def _post_surely(connection: Connection, operation: Post) -> None:
    """Post what the clearing account must be able to give; that it cannot is a defect, and nothing commits."""
    if not await post(connection, operation):
        raise LedgerUnavailable


async def _accounts(payments: Payments, person: uuid.UUID, gateway: str) -> tuple[int, int]:
    earned, clearing = accounts.earned(person), f"clearing:payouts:{gateway}"
    ids = await payments.ids.of([earned, clearing])
    return ids[earned], ids[clearing]


async def _world(payments: Payments, id_: uuid.UUID) -> tuple[int, int]:
    found = await _read_one(payments, id_)
    clearing, world = f"clearing:payouts:{found.gateway}", f"world:{found.gateway}"
    ids = await payments.ids.of([clearing, world])
    return ids[clearing], ids[world]


async def _free(connection: Connection, account: int) -> int:
    cursor = await connection.execute("SELECT posted - held FROM ledger.account WHERE id = %s", [account])
    row = await cursor.fetchone()
    return int(row[0]) if row else 0

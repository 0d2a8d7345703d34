"""Deposits: asked for, paid on the gateway's page, credited when the gateway says that the money is there."""

import uuid
from dataclasses import dataclass

import structlog

from ledger import replies
from ledger.audit_log import Origin, note
from ledger.db import Connection
from ledger.errors import GatewayUnavailable, NotFound
from ledger.ids import new_uuid7
from ledger.money import accounts
from ledger.money.posting import Kind, Post
from ledger.payments import rows
from ledger.payments.gateway import Looked
from ledger.payments.payments import Payments, post
from ledger.payments.rows import Payment

EXPIRY_BATCH = 100
KIND = "DEPOSIT"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Opened:
    """A deposit and whether an earlier request with the same Idempotency-Key made it."""

    payment: Payment
    is_replay: bool


async def create(
    payments: Payments, origin: Origin, request: replies.Request | None, person: uuid.UUID, amount: int, gateway: str
) -> Opened:
    """Make a deposit, then open its checkout; the same request again completes what a crash in between left undone.

    Raises:
        IdempotencyConflict: The key was used for another request.
        GatewayUnavailable: The deposit stands without a checkout; the same request again opens it.
        DatabaseUnavailable: The outcome is unknown; send the same request again.
    """
    id_ = new_uuid7()

    async def insert(connection: Connection) -> Opened:
        if request is not None and (earlier := await replies.find(connection, request)):
            found = await rows.find_payment(connection, uuid.UUID(earlier.body["payment"]))
            assert found is not None
            return Opened(found, is_replay=True)
        made = await rows.insert(connection, id_, person, KIND, amount, gateway)
        if request is not None:  # the row never changes but for its end and its checkout: its id is enough to answer the same again
            await replies.keep(connection, request, replies.Reply(201, {"payment": str(id_)}))
        await note(connection, origin, "deposit_requested", made.text_id, amount=amount, gateway=gateway)
        return Opened(made, is_replay=False)

    opened = await payments.database.transact(insert)
    if opened.payment.checkout_url is None and opened.payment.status == "PENDING":
        return Opened(await _with_checkout(payments, opened.payment), opened.is_replay)
    return opened


async def _with_checkout(payments: Payments, payment: Payment) -> Payment:
    """Open the checkout, with no transaction open; whoever comes first writes it down, and it is the same for all."""
    gateway = payments.gateways.get(payment.gateway)
    if gateway is None:
        raise GatewayUnavailable(payment.gateway)
    checkout = await gateway.open_checkout(payment)

    async def write(connection: Connection) -> Payment:
        await connection.execute(
            "UPDATE ledger.payment SET gateway_id = coalesce(gateway_id, %s), checkout_url = %s WHERE id = %s AND checkout_url IS NULL",
            [checkout.gateway_id, checkout.url, payment.id],
        )
        found = await rows.find_payment(connection, payment.id)
        assert found is not None
        return found

    return await payments.database.run(write)


async def settle(connection: Connection, payments: Payments, id_: uuid.UUID, gateway_id: str, looked: Looked, origin: Origin) -> str:
    """Write down what the gateway says of a deposit, in the caller's transaction; answer what came of it in a word.

    Money that really arrived is always credited, also when the deposit was given up before: FAILED may become SUCCESS, never the reverse.

    Raises:
        NotFound: There is no such deposit.
        LedgerUnavailable: The books refuse the post: a defect.
    """
    payment = await rows.locked(connection, id_, KIND)
    if payment.status == "SUCCESS" or looked.state == "pending":
        return "repeated" if payment.status == "SUCCESS" else "waiting"
    if looked.state == "failed":
        await fail(connection, payment, "The gateway reports that the payment failed.", origin)
        return "failed"
    if (looked.amount, looked.currency) != (payment.amount, payment.currency):
        # Nobody can say what this money is for: an operator decides, and the reconciliation lists it until then.
        log.error("deposit_differs", payment=payment.text_id, asked=payment.amount, got=looked.amount, currency=looked.currency)
        return "mismatch"
    await connection.execute("UPDATE ledger.payment SET gateway_id = coalesce(gateway_id, %s) WHERE id = %s", [gateway_id, payment.id])
    await rows.end(connection, payment, "SUCCESS")
    await note(connection, origin, "deposit_succeeded", payment.text_id, amount=payment.amount, gateway=payment.gateway)
    await post(connection, await _post_of(payments, payment))
    return "credited"


async def _post_of(payments: Payments, payment: Payment) -> Post:
    world, pocket = f"world:{payment.gateway}", accounts.paid(payment.person)
    ids = await payments.ids.of([world, pocket])
    return Post(
        id=uuid.uuid5(payment.id, "deposit"), kind=Kind.DEPOSIT, meta={"payment": str(payment.id), "gateway": payment.gateway},
        legs=((ids[world], -payment.amount), (ids[pocket], payment.amount)),
    )  # fmt: skip


async def fail(connection: Connection, payment: Payment, reason: str, origin: Origin) -> None:
    """End a pending deposit, whose lock the caller holds; one that has ended stays as it is."""
    if payment.status == "PENDING":
        await rows.end(connection, payment, "FAILED", reason)
        await note(connection, origin, "deposit_failed", payment.text_id, reason=reason)


async def expire(payments: Payments) -> int:
    """End deposits that nobody confirmed in time, after a last look at their gateway; answer how many ended."""

    async def due(connection: Connection) -> list[Payment]:
        cursor = await connection.execute(
            f"SELECT {rows.COLUMNS} FROM ledger.payment WHERE status = 'PENDING' AND kind = 'DEPOSIT' "  # noqa: S608
            "AND created_at < clock_timestamp() - make_interval(hours => %s) ORDER BY created_at LIMIT %s",
            [payments.settings.deposit_expiry_hours, EXPIRY_BATCH],
        )
        return [Payment(*row) for row in await cursor.fetchall()]

    ended = 0
    for payment in await payments.database.run(due):
        try:
            ended += await _expire_one(payments, payment)
        except (GatewayUnavailable, NotFound):
            continue  # the next round looks again: a deposit is not given up while its gateway may have the money
    return ended


async def _expire_one(payments: Payments, payment: Payment) -> bool:
    gateway = payments.gateways.get(payment.gateway)
    looked = await gateway.look_up(payment.gateway_id, None) if gateway and payment.gateway_id else None
    origin = Origin("system")

    async def write(connection: Connection) -> bool:
        if looked is not None and looked.state == "succeeded":
            return await settle(connection, payments, payment.id, payment.gateway_id or "", looked, origin) == "credited"
        await fail(connection, await rows.locked(connection, payment.id, KIND), "Nobody paid in time.", origin)
        return True

    await payments.ids.of([f"world:{payment.gateway}", accounts.paid(payment.person)])
    return await payments.pay.transact(write)

"""The inbox of webhooks: an event is kept once for ever, answered fast, and worked until its effect stands; any order, any number of times."""

import uuid
from collections.abc import Mapping
from typing import Any

import psycopg
import structlog
from psycopg.types.json import Jsonb

from ledger.audit_log import Origin
from ledger.db import Connection, DatabaseUnavailable
from ledger.errors import GatewayUnavailable, LedgerUnavailable, NotFound
from ledger.money import accounts
from ledger.payments import rows
from ledger.payments.deposits import settle
from ledger.payments.gateway import BadEvent, Event, Gateway, event_of
from ledger.payments.payments import Payments

BATCH = 20
LEASE_S = 60  # a worker that took an event has it for itself this long; after that another one takes it
LONGEST_PAUSE_S = 3600
MOST_TRIES = 24  # with pauses that double up to an hour: more than half a day
UNKNOWN = "No deposit matches this event."
log = structlog.get_logger()


async def receive(
    payments: Payments, gateway: Gateway, headers: Mapping[str, str], raw_body: bytes, deposit: uuid.UUID | None = None
) -> Event | None:
    """Verify an event and keep it; None: it does not concern us. `deposit`: the only one that it may be about.

    Raises:
        BadEvent: It is not signed for us, or fits no deposit.
        DatabaseUnavailable: It is not kept; the gateway sends it again.
    """
    event = gateway.parse_event(headers, raw_body)
    if event is None:
        return None
    if deposit is not None and event.payment != deposit:
        raise BadEvent("The event is about another deposit than this address.")

    async def keep(connection: Connection) -> None:
        payment = await rows.find_payment(connection, event.payment)
        if payment is None or payment.kind != "DEPOSIT" or payment.gateway != gateway.name:
            raise BadEvent(UNKNOWN)
        if (event.amount, event.currency) != (payment.amount, payment.currency):
            log.error("payment_event_differs", gateway=gateway.name, id=event.id, payment=payment.text_id, amount=event.amount)
            raise BadEvent("Amount or currency differ from the deposit's.")
        await connection.execute(
            "INSERT INTO ledger.payment_event (gateway, id, body) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [gateway.name, event.id, Jsonb(event.as_body())],
        )

    await payments.database.run(keep)
    return event


async def work_inbox(payments: Payments) -> int:
    """Work the events whose time has come; answer how many were done with."""
    done = 0
    for gateway, id_, body, tries in await payments.database.run(_take):
        done += await _tried(payments, gateway, event_of(id_, body), tries)
    return done


async def _take(connection: Connection) -> list[tuple[str, str, dict[str, Any], int]]:
    """Take a batch of due events: the lease is in the row, so that no transaction is open while they are worked."""
    cursor = await connection.execute(
        "UPDATE ledger.payment_event e SET tries = e.tries + 1, next_at = clock_timestamp() + make_interval(secs => %s) "
        "FROM (SELECT gateway, id FROM ledger.payment_event WHERE worked_at IS NULL AND next_at <= clock_timestamp() "
        "ORDER BY next_at LIMIT %s FOR UPDATE SKIP LOCKED) due WHERE e.gateway = due.gateway AND e.id = due.id "
        "RETURNING e.gateway, e.id, e.body, e.tries",
        [LEASE_S, BATCH],
    )
    return [(row[0], row[1], row[2], row[3]) for row in await cursor.fetchall()]


async def _tried(payments: Payments, gateway: str, event: Event, tries: int) -> bool:
    try:
        await work(payments, gateway, event)
        return True
    except (GatewayUnavailable, DatabaseUnavailable, LedgerUnavailable, psycopg.Error) as failed:
        log.warning("payment_event_failed", gateway=gateway, id=event.id, tries=tries, error=str(failed)[:200])
    except NotFound:
        tries = MOST_TRIES
    await payments.database.run(lambda connection: _put_off(connection, gateway, event.id, tries))
    return False


async def _put_off(connection: Connection, gateway: str, id_: str, tries: int) -> None:
    if tries >= MOST_TRIES:
        log.error("payment_event_given_up", gateway=gateway, id=id_)
        await _close(connection, gateway, id_, "given_up")
        return
    pause_s = min(2**tries, LONGEST_PAUSE_S)
    await connection.execute(
        "UPDATE ledger.payment_event SET next_at = clock_timestamp() + make_interval(secs => %s) WHERE gateway = %s AND id = %s",
        [pause_s, gateway, id_],
    )


async def work(payments: Payments, gateway: str, event: Event) -> None:
    """Do what an event is for, unless that is done: look at the gateway, then write everything in one short transaction.

    Raises:
        GatewayUnavailable: The gateway does not answer, or is not set any more.
        NotFound: The deposit is unknown.
        LedgerUnavailable: The books refuse the post.
        DatabaseUnavailable: The outcome is unknown; again is harmless.
    """
    known = payments.gateways.get(gateway)
    if known is None:
        raise GatewayUnavailable(gateway)
    if await payments.database.run(lambda connection: _is_worked(connection, gateway, event.id)):
        return
    looked = await known.look_up(event.gateway_id, event)
    await _open_accounts(payments, event.payment)

    async def write(connection: Connection) -> None:
        outcome = await settle(connection, payments, event.payment, event.gateway_id, looked, Origin(f"gateway:{gateway}"))
        await _close(connection, gateway, event.id, outcome)

    await payments.pay.transact(write)


async def _open_accounts(payments: Payments, payment: uuid.UUID) -> None:
    """Open the accounts before the transaction: their ids come from the cache inside it."""
    found = await payments.database.run(lambda connection: rows.find_payment(connection, payment))
    if found is not None:
        await payments.ids.of([f"world:{found.gateway}", accounts.paid(found.person)])


async def _is_worked(connection: Connection, gateway: str, id_: str) -> bool:
    cursor = await connection.execute(
        "SELECT 1 FROM ledger.payment_event WHERE gateway = %s AND id = %s AND worked_at IS NOT NULL", [gateway, id_]
    )
    return await cursor.fetchone() is not None


async def _close(connection: Connection, gateway: str, id_: str, outcome: str) -> None:
    await connection.execute(
        "UPDATE ledger.payment_event SET worked_at = clock_timestamp(), outcome = %s WHERE gateway = %s AND id = %s AND worked_at IS NULL",
        [outcome, gateway, id_],
    )

"""Compares what a gateway says it received with what the books say came from it; posts nothing, an operator decides."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from ledger.db import Connection
from ledger.errors import NotFound
from ledger.ids import text_of
from ledger.money.posting import Kind
from ledger.payments.payments import Payments

MARGIN = timedelta(hours=1)  # a checkout opens a little after its deposit was asked for, and clocks differ
What = Literal["not_in_books", "not_at_gateway", "amounts_differ", "unexplained"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that does not fit; amounts in micro-credits."""

    what: What
    subject: str
    at_gateway: int
    in_books: int


async def reconcile(payments: Payments, gateway: str, since: datetime) -> list[Difference]:
    """List the differences among the payments that were asked for since then.

    Raises:
        NotFound: The gateway is not set here.
        GatewayUnavailable: It does not answer.
        DatabaseUnavailable: The database does not answer.
    """
    known = payments.gateways.get(gateway)
    if known is None:
        raise NotFound("Gateway", gateway[:60])
    reported = {row.payment: row.amount for row in await known.report(since - MARGIN) if _made_at(row.payment) >= since}
    booked, unexplained = await payments.database.run(lambda connection: _booked(connection, gateway, since))
    found = [
        Difference(
            what=_what(reported.get(one), booked.get(one)),
            subject=text_of("dep", one),
            at_gateway=reported.get(one, 0),
            in_books=booked.get(one, 0),
        )
        for one in sorted(reported.keys() | booked.keys())
        if reported.get(one) != booked.get(one)
    ]
    return found + [Difference(what="unexplained", subject=str(txn), at_gateway=0, in_books=amount) for txn, amount in unexplained]


def _what(reported: int | None, booked: int | None) -> What:
    if booked is None:
        return "not_in_books"
    return "not_at_gateway" if reported is None else "amounts_differ"


def _made_at(payment: uuid.UUID) -> datetime:
    """Read the moment off an id (UUIDv7): the same for the books and for the report, so that both are cut at one place."""
    return datetime.fromtimestamp((payment.int >> 80) / 1000, UTC)


async def _booked(connection: Connection, gateway: str, since: datetime) -> tuple[dict[uuid.UUID, int], list[tuple[uuid.UUID, int]]]:
    """Read what came from the gateway: by deposit, and what is neither a deposit nor paid out."""
    cursor = await connection.execute(
        "SELECT t.id, t.kind, -e.amount, (t.meta->>'payment')::uuid FROM ledger.entry e JOIN ledger.txn t ON t.id = e.txn_id "
        "WHERE e.account_id = (SELECT id FROM ledger.account WHERE address = %s) AND t.at >= %s ORDER BY e.seq",
        [f"world:{gateway}", since],
    )
    booked: dict[uuid.UUID, int] = {}
    unexplained: list[tuple[uuid.UUID, int]] = []
    for txn, kind, amount, payment in await cursor.fetchall():
        if kind == Kind.WITHDRAWAL_PAID:
            continue  # paid by hand: no gateway reports it
        if kind != Kind.DEPOSIT or payment is None:
            unexplained.append((txn, amount))
        elif _made_at(payment) >= since:
            booked[payment] = booked.get(payment, 0) + amount
    return booked, unexplained

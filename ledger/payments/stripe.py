"""Stripe: people pay on its own page (Checkout), its signed events make us look, and what it answers then is what counts."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import stripe
import structlog

from ledger.errors import GatewayUnavailable
from ledger.ids import uuid_of
from ledger.payments.gateway import CALL_LIMIT_S, BadEvent, Checkout, Event, Looked, ReportRow, State, way_back
from ledger.payments.rows import Payment

T = TypeVar("T")
MICROS_PER_CENT = 10_000
SOCKET_LIMIT_S = 5.0  # of one try; there are two, inside CALL_LIMIT_S
TOLERANCE_S = 300
PAGE = 100
# What an event makes us expect. A completed checkout may still wait for its bank.
EXPECTED: dict[str, State] = {
    "checkout.session.completed": "pending",
    "checkout.session.async_payment_succeeded": "succeeded",
    "checkout.session.async_payment_failed": "failed",
    "checkout.session.expired": "failed",
}
log = structlog.get_logger()


class StripeGateway:
    """Stripe Checkout. Its client blocks, so each call has a thread and a limit."""

    name = "stripe"

    def __init__(self, *, api_key: str, webhook_secret: str, site_url: str, api_base: str | None = None) -> None:
        self._webhook_secret = webhook_secret
        self._site_url = site_url
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": api_base} if api_base else {},
            max_network_retries=1,
            http_client=stripe.RequestsClient(timeout=SOCKET_LIMIT_S),
        )

    async def open_checkout(self, payment: Payment) -> Checkout:
        """Open a Checkout Session; our id is its idempotency key.

        Raises:
            GatewayUnavailable: Stripe does not answer or refuses.
        """
        params: Any = {
            "mode": "payment",
            "client_reference_id": payment.text_id,
            "metadata": {"payment": payment.text_id},
            "success_url": way_back(self._site_url, payment.text_id, "paid"),
            "cancel_url": way_back(self._site_url, payment.text_id, "canceled"),
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": payment.currency.lower(),
                        "unit_amount": payment.amount // MICROS_PER_CENT,
                        "product_data": {"name": "Credits"},
                    },
                }
            ],
        }
        session = await self._call(lambda: self._client.v1.checkout.sessions.create(params, {"idempotency_key": payment.text_id}))
        if not session.url:
            raise GatewayUnavailable(self.name)
        return Checkout(gateway_id=session.id, url=session.url)

    def parse_event(self, headers: Mapping[str, str], raw_body: bytes) -> Event | None:
        """Verify an event with Stripe's own check and read it; None: not about a checkout of ours.

        Raises:
            BadEvent: It is not signed for this endpoint, or too old, or too new.
        """
        signature = headers.get("stripe-signature", "")
        try:
            self._client.construct_event(raw_body, signature, self._webhook_secret, TOLERANCE_S)
            _require_not_from_tomorrow(signature)
            body = json.loads(raw_body)
            session, kind, id_ = body["data"]["object"], body["type"], body["id"]
            if kind not in EXPECTED:
                return None
            payment = _payment_of(session)
        except stripe.SignatureVerificationError as refused:
            raise BadEvent(str(refused.user_message or refused)) from refused
        except (ValueError, LookupError, TypeError, AttributeError) as broken:
            raise BadEvent("The event cannot be read.") from broken
        if payment is None:
            return None
        amount, currency = _money_of(session.get("amount_total"), session.get("currency"))
        return Event(id=id_, state=EXPECTED[kind], payment=payment, gateway_id=session["id"], amount=amount, currency=currency)

    async def look_up(self, gateway_id: str, event: Event | None) -> Looked:
        """Read the session again: only what Stripe answers here is believed.

        Raises:
            GatewayUnavailable: Stripe does not answer.
        """
        session = await self._call(lambda: self._client.v1.checkout.sessions.retrieve(gateway_id))
        amount, currency = _money_of(session.amount_total, session.currency)
        state: State = "pending"
        if session.payment_status == "paid":
            state = "succeeded"
        elif session.status == "expired" or (event is not None and event.state == "failed" and session.status == "complete"):
            state = "failed"
        return Looked(state=state, amount=amount, currency=currency)

    async def report(self, since: datetime) -> list[ReportRow]:
        """List the paid sessions that were opened since then.

        Raises:
            GatewayUnavailable: Stripe does not answer.
        """
        params: Any = {"created": {"gte": int(since.timestamp())}, "limit": PAGE}
        rows: list[ReportRow] = []
        while True:
            page = await self._call(partial(self._client.v1.checkout.sessions.list, params))
            for session in page.data:
                payment = _payment_of({"client_reference_id": session.client_reference_id})
                if payment is not None and session.payment_status == "paid":
                    amount, _ = _money_of(session.amount_total, session.currency)
                    rows.append(ReportRow(payment=payment, gateway_id=session.id, amount=amount))
            if not page.has_more or not page.data:
                return rows
            params = params | {"starting_after": page.data[-1].id}

    async def _call(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.wait_for(asyncio.to_thread(work), CALL_LIMIT_S)
        except (stripe.StripeError, TimeoutError) as failed:
            log.warning("stripe_call_failed", error=type(failed).__name__, said=str(failed)[:300])
            raise GatewayUnavailable(self.name) from failed


def _payment_of(session: Mapping[str, Any]) -> uuid.UUID | None:
    """Read our id off a session; None: somebody else's, on the same account."""
    try:
        return uuid_of("dep", session.get("client_reference_id") or "")
    except ValueError:
        return None


def _money_of(cents: int | None, currency: str | None) -> tuple[int, str]:
    return (cents or 0) * MICROS_PER_CENT, (currency or "").upper()


def _require_not_from_tomorrow(signature: str) -> None:
    """Refuse a signature from the future: Stripe's own check looks at its age alone, and such a one would be good for long."""
    moment = next(int(part[2:]) for part in signature.split(",") if part.startswith("t="))
    if moment > time.time() + TOLERANCE_S:
        raise BadEvent("Timestamp outside the tolerance zone.")

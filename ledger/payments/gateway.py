"""What every payment gateway does for us, and the values that pass between us and it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from ledger.payments.rows import Payment

CALL_LIMIT_S = 12.0  # the longest that a gateway may take to answer us
State = Literal["succeeded", "failed", "pending"]
Ending = Literal["paid", "failed", "canceled"]  # how somebody left the checkout


class BadEvent(Exception):
    """What came to a webhook is not an event that its gateway signed for us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A page where somebody pays: the gateway's id of it, and its address."""

    gateway_id: str
    url: str


def way_back(site_url: str, deposit: str, ending: Ending) -> str:
    """Name the page of the console to which somebody comes back. `ending` only chooses its first words: the page asks what became of it."""
    return f"{site_url}/dashboard/wallet?deposit={deposit}&outcome={ending}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A signed event, in our words. It is a hint to look, never the truth itself (but for the mock, which has no other)."""

    id: str
    state: State
    payment: uuid.UUID
    gateway_id: str
    amount: int
    currency: str

    def as_body(self) -> dict[str, Any]:
        """Write what the inbox keeps: nothing of the payer."""
        return {
            "state": self.state,
            "payment": str(self.payment),
            "gateway_id": self.gateway_id,
            "amount": self.amount,
            "currency": self.currency,
        }


def event_of(id_: str, body: Mapping[str, Any]) -> Event:
    """Read back what `Event.as_body` wrote."""
    return Event(id=id_, **{**body, "payment": uuid.UUID(body["payment"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What the gateway itself says of a payment; the amount in micro-credits."""

    state: State
    amount: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """A payment that the gateway says it received."""

    payment: uuid.UUID
    gateway_id: str
    amount: int


class Gateway(Protocol):
    """A way for money to come in. Money goes out by an operator's hand: none of ours can pay out by itself."""

    name: str

    async def open_checkout(self, payment: Payment) -> Checkout:
        """Open the page where this deposit is paid; again with the same deposit answers the same page.

        Raises:
            GatewayUnavailable: The gateway does not answer or refuses.
        """
        ...

    def parse_event(self, headers: Mapping[str, str], raw_body: bytes) -> Event | None:
        """Verify a webhook's signature and read it; None: it is signed, and does not concern us.

        Raises:
            BadEvent: It is not signed by this gateway for us, or too old.
        """
        ...

    async def look_up(self, gateway_id: str, event: Event | None) -> Looked:
        """Read the truth about a payment; `event` is what made us look.

        Raises:
            GatewayUnavailable: The gateway does not answer.
        """
        ...

    async def report(self, since: datetime) -> list[ReportRow]:
        """List what was received since then.

        Raises:
            GatewayUnavailable: The gateway does not answer.
        """
        ...

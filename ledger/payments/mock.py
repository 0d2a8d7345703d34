"""The gateway for development: pays whenever somebody says so, with events that are signed as a real one's are (Standard Webhooks)."""

import base64
import json
import os
import secrets
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from ledger.amounts import credits_text, micros_of
from ledger.db import Connection, Database, connect
from ledger.errors import NotFound
from ledger.ids import uuid_of
from ledger.payments.gateway import BadEvent, Checkout, Event, Looked, ReportRow
from ledger.payments.rows import Payment, find_payment
from ledger.secret_files import write_new
from ledger.settings import LedgerSettings

SECRET_FILE = "mock_webhook_secret"  # noqa: S105 - its name, not what is in it
Outcome = Literal["succeeded", "failed"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    type: Literal["deposit.succeeded", "deposit.failed"]
    deposit_id: str
    amount: str
    currency: str


class MockGateway:
    """Has no record of its own: what its signed events say is the truth."""

    name = "mock"

    def __init__(self, secrets_dir: Path, site_url: str, database: Database) -> None:
        self._webhook = Webhook(webhook_secret(secrets_dir))
        self._site_url = site_url
        self._database = database

    async def open_checkout(self, payment: Payment) -> Checkout:
        """Name the page with two buttons."""
        return Checkout(gateway_id=f"mock_{payment.id.hex}", url=f"{self._site_url}/api/payments/mock/pay/{payment.text_id}/")

    def parse_event(self, headers: Mapping[str, str], raw_body: bytes) -> Event:
        """Verify and read an event.

        Raises:
            BadEvent: It is not signed with the installation's secret, is older or newer than five minutes, or is no event of a deposit.
        """
        try:
            self._webhook.verify(raw_body, dict(headers), json_parse=False)
        except WebhookVerificationError as refused:
            raise BadEvent(f"{refused}.") from refused
        except ValueError as broken:  # the package lets what is no base 64 or no UTF-8 through
            raise BadEvent("Invalid signature headers.") from broken
        try:
            body = _Body.model_validate_json(raw_body)
            payment, amount = uuid_of("dep", body.deposit_id), micros_of(body.amount)
        except ValidationError as wrong:
            first = wrong.errors(include_input=False, include_url=False)[0]
            raise BadEvent(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from wrong
        except ValueError as wrong:
            raise BadEvent(f"{wrong}.") from wrong
        state: Outcome = "succeeded" if body.type == "deposit.succeeded" else "failed"
        return Event(
            id=headers["webhook-id"], state=state, payment=payment, gateway_id=f"mock_{payment.hex}", amount=amount, currency=body.currency
        )

    async def look_up(self, gateway_id: str, event: Event | None) -> Looked:
        """Repeat what the event says; without one nothing has happened yet."""
        if event is None:
            return Looked(state="pending", amount=0, currency="")
        return Looked(state=event.state, amount=event.amount, currency=event.currency)

    async def report(self, since: datetime) -> list[ReportRow]:
        """List the events of success."""

        async def query(connection: Connection) -> list[ReportRow]:
            cursor = await connection.execute(
                "SELECT DISTINCT ON (body->>'payment') body->>'payment', body->>'gateway_id', (body->>'amount')::bigint FROM ledger.payment_event "
                "WHERE gateway = %s AND body->>'state' = 'succeeded' AND received_at >= %s",
                [self.name, since],
            )
            return [ReportRow(payment=uuid.UUID(row[0]), gateway_id=row[1], amount=row[2]) for row in await cursor.fetchall()]

        return await self._database.run(query)

    def signed(self, payment: Payment, outcome: Outcome) -> tuple[dict[str, str], bytes]:
        """Write and sign the event of a deposit; the event's id follows from both, so that a second press of the button says nothing new."""
        body = {
            "type": f"deposit.{outcome}", "deposit_id": payment.text_id, "amount": credits_text(payment.amount), "currency": payment.currency,
        }  # fmt: skip
        text, id_, now = json.dumps(body), f"msg_{uuid.uuid5(payment.id, outcome).hex}", datetime.now(UTC)
        signature = self._webhook.sign(id_, now, text)
        headers = {"webhook-id": id_, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
        return headers | {"content-type": "application/json"}, text.encode()


def webhook_secret(folder: Path) -> str:
    """Read the installation's secret for mock events; made at its first use, whole or not at all."""
    path = folder / SECRET_FILE
    if not path.exists():
        half = folder / f".{SECRET_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
        write_new(half, b"whsec_" + base64.b64encode(secrets.token_bytes(32)))
        try:
            path.hardlink_to(half)
        except FileExistsError:
            pass  # another process made it meanwhile: that one counts
        finally:
            half.unlink()
    return path.read_text().strip()


async def pay_mock(settings: LedgerSettings, deposit_id: str, outcome: Outcome = "succeeded") -> str:
    """Send the signed event of a deposit to the running ledger's public address; answer what it said.

    Raises:
        NotFound: There is no such deposit with the mock.
        BadEvent: The ledger refused the event.
        DatabaseUnavailable: The database does not answer.
        httpx2.HTTPError: The ledger does not answer.
    """
    connection = await connect(settings.database_url, name="gfe_dev_pay")
    try:
        payment = await find_payment(connection, _deposit(deposit_id))
    finally:
        await connection.close()
    if payment is None or payment.gateway != MockGateway.name:
        raise NotFound("Transaction", deposit_id[:60])
    gateway = MockGateway(settings.secrets_dir, settings.site_url, Database(settings.database_url, name="gfe_dev_pay"))
    headers, body = gateway.signed(payment, outcome)
    async with httpx2.AsyncClient(timeout=10, trust_env=False) as client:
        answer = await client.post(f"{settings.site_url}/api/payments/webhook/mock/{payment.text_id}/", content=body, headers=headers)
    if answer.status_code != 200:
        raise BadEvent(answer.text[:500])
    return str(answer.json()["status"])


def _deposit(text: str) -> uuid.UUID:
    try:
        return uuid_of("dep", text)
    except ValueError as wrong:
        raise NotFound("Transaction", text[:60]) from wrong

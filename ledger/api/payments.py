"""Deposits, withdrawals, and the webhooks of payment gateways."""

import dataclasses
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from starlette.responses import JSONResponse

from ledger import replies
from ledger.amounts import credits_text, micros_of
from ledger.api.callers import Context, caller_with, of
from ledger.api.cursors import Cursor, Limit, read_mark, write_mark
from ledger.api.payment_shapes import NewDeposit, NewWithdrawal, Processed, Refused, Transaction, Transactions
from ledger.api.routes import both, moment
from ledger.errors import InvalidRequest, NotFound
from ledger.identity.credentials import Principal
from ledger.identity.limits import Bucket
from ledger.payments import deposits, inbox, rows, withdrawals
from ledger.payments.gateway import BadEvent, Gateway
from ledger.payments.mock import MockGateway
from ledger.payments.rows import Payment

Payer = Annotated[Principal, caller_with("payments:write")]
Reader = Annotated[Principal, caller_with("wallet:read")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=200, description="The same key with the same request does it once; kept 7 days."
    ),
]
PAYMENTS_PER_HOUR = 120  # deposits, and withdrawals, of an account
HOUR_S = 3600.0
router = APIRouter(prefix="/api/payments", redirect_slashes=False)


@both(router, "POST", "/deposit/", id="create_deposit", status=201, model=Transaction, refusals=(400, 401, 403, 422, 429, 503))
async def create_deposit(request: Request, context: Context, caller: Payer, body: NewDeposit, key: Key = None) -> JSONResponse:
    """Ask for a deposit; pay it at `checkout_url`. Credits come when the gateway confirms it."""
    settings = context.settings
    amount = _within(body.amount, settings.deposit_min, settings.deposit_max)
    gateway = body.gateway_id or context.payments.default_gateway
    if gateway not in context.payments.gateways:
        raise InvalidRequest("gateway_id", f'"{gateway[:60]}" is not a valid choice.')
    asked = _request(caller, "deposit", key, {"amount": amount, "gateway": gateway, "currency": body.currency})
    await context.limits.require_room("deposits per hour", Bucket(f"deposit:{caller.person}", PAYMENTS_PER_HOUR, HOUR_S))
    made = await deposits.create(context.payments, of(caller, request), asked, caller.person, amount, gateway)
    return _made(made.payment, caller, is_replay=made.is_replay)


@both(router, "POST", "/withdraw/", id="create_withdrawal", status=201, model=Transaction, refusals=(400, 401, 402, 403, 422, 429, 503))
async def create_withdrawal(request: Request, context: Context, caller: Payer, body: NewWithdrawal, key: Key = None) -> JSONResponse:
    """Ask for earnings to be paid out: they leave the wallet at once, and come back if an operator refuses."""
    await context.sign_in.require_fresh(caller.person, caller.session)
    amount = _within(body.amount, context.settings.withdrawal_min, None)
    asked = _request(caller, "withdraw", key, {"amount": amount, "destination": body.destination})
    await context.limits.require_room("withdrawals per hour", Bucket(f"withdraw:{caller.person}", PAYMENTS_PER_HOUR, HOUR_S))
    made = await withdrawals.request(context.payments, of(caller, request), asked, caller.person, amount, body.destination)
    return _made(made.payment, caller, is_replay=made.is_replay)


@both(router, "GET", "/transactions/", id="list_transactions", refusals=(400, 401, 403, 503))
async def list_transactions(context: Context, caller: Reader, limit: Limit = 20, cursor: Cursor = None) -> Transactions:
    """List the caller's deposits and withdrawals, newest first."""
    before = _before(cursor)
    found = await context.database.run(lambda connection: rows.newest(connection, caller.person, limit + 1, before))
    last = found[limit - 1] if len(found) > limit else None
    return Transactions(
        results=[_transaction(payment, caller) for payment in found[:limit]],
        next=write_mark((last.created_at, last.id.hex) if last else None),
    )


@both(router, "GET", "/transactions/{transaction_id}/", id="get_transaction", refusals=(401, 403, 404, 503))
async def get_transaction(context: Context, caller: Reader, transaction_id: str) -> Transaction:
    """Read one of the caller's deposits or withdrawals."""
    id_ = rows.read_id(transaction_id)
    found = await context.database.run(lambda connection: rows.find_payment(connection, id_))
    if found is None or found.person != caller.person:
        raise NotFound("Transaction", transaction_id[:60])
    return _transaction(found, caller)


@both(router, "POST", "/webhook/{gateway}/", id="receive_payment_event", model=Processed, refusals=(404, 503), public=True)
async def receive(request: Request, context: Context, gateway: str) -> JSONResponse:
    """Take a gateway's signed event; it is worked a moment later, so that the gateway has its answer at once."""
    known = context.payments.gateways.get(gateway)
    if known is None or gateway == MockGateway.name:
        raise NotFound("Gateway", gateway[:60])
    return await _received(request, context, known, None)


mock_router = APIRouter(prefix="/api/payments", redirect_slashes=False)


@both(mock_router, "POST", "/webhook/mock/{deposit_id}/", id="receive_mock_event", model=Processed, refusals=(503,), public=True)
async def receive_mock(request: Request, context: Context, deposit_id: str) -> JSONResponse:
    """Take a signed event of the development gateway and work it before answering."""
    mock = context.payments.mock
    if mock is None:
        raise NotFound("Gateway", MockGateway.name)
    try:
        deposit = rows.read_id(deposit_id)
    except NotFound:
        return _refused(inbox.UNKNOWN)
    return await _received(request, context, mock, deposit)


async def _received(request: Request, context: Context, gateway: Gateway, deposit: uuid.UUID | None) -> JSONResponse:
    try:
        event = await inbox.receive(context.payments, gateway, request.headers, await request.body(), deposit)
    except BadEvent as refused:
        return _refused(str(refused))
    if event is None:
        return JSONResponse({"status": "Ignored"})
    if deposit is None:
        return JSONResponse({"status": "Received"})
    await inbox.work(context.payments, gateway.name, event)
    return JSONResponse({"status": "Transaction Processed"})


def _refused(detail: str) -> JSONResponse:
    return JSONResponse(Refused(detail=detail, error=detail).model_dump(), 400)


def _within(amount: int, least: str, most: str | None) -> int:
    """Answer an amount that is within the bounds.

    Raises:
        InvalidRequest: They are not.
    """
    if amount < micros_of(least):
        raise InvalidRequest("amount", f"Ensure this value is greater than or equal to {credits_text(micros_of(least))}.")
    if most is not None and amount > micros_of(most):
        raise InvalidRequest("amount", f"Ensure this value is less than or equal to {credits_text(micros_of(most))}.")
    return amount


def _request(caller: Principal, route: str, key: str | None, body: dict[str, Any]) -> replies.Request | None:
    return replies.Request(caller.person, route, key, body) if key else None


def _made(payment: Payment, caller: Principal, *, is_replay: bool) -> JSONResponse:
    """Answer a new one as it was when it was made, so that a repeat of the request gets the same answer whatever happened meanwhile."""
    as_made = dataclasses.replace(payment, status="PENDING", reason=None, ended_at=None)
    headers = {"Idempotent-Replayed": "true"} if is_replay else {}
    return JSONResponse(_transaction(as_made, caller).model_dump(), 201, headers)


def _transaction(payment: Payment, caller: Principal) -> Transaction:
    return Transaction(
        id=payment.text_id, user=caller.caller.username, amount=credits_text(payment.amount), currency=payment.currency, type=payment.kind,
        status=payment.status, gateway=payment.gateway, gateway_id=payment.gateway_id, created_at=moment(payment.created_at),
        ended_at=moment(payment.ended_at) if payment.ended_at else None, reason=payment.reason, checkout_url=payment.checkout_url,
        destination=payment.destination,
    )  # fmt: skip


def _before(cursor: str | None) -> uuid.UUID | None:
    mark = read_mark(cursor)
    try:
        return uuid.UUID(mark[1]) if mark else None
    except ValueError as wrong:
        raise InvalidRequest("cursor", "This cursor is not one of ours; start again without it.") from wrong

"""The development gateway's page: two buttons, and no money. Rendered on the server, without a script."""

from html import escape
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ledger.amounts import credits_text
from ledger.api.callers import Context
from ledger.api.pages import HEADERS, STYLE
from ledger.context import LedgerContext
from ledger.errors import InvalidRequest, NotFound
from ledger.payments import inbox, rows
from ledger.payments.gateway import Ending, way_back
from ledger.payments.mock import MockGateway, Outcome
from ledger.payments.rows import Payment

POLICY = HEADERS | {"Content-Security-Policy": f"{HEADERS['Content-Security-Policy']}; form-action 'self'"}
ENDINGS: dict[Outcome, Ending] = {"succeeded": "paid", "failed": "failed"}
ENDED: dict[str, Ending] = {"SUCCESS": "paid", "FAILED": "failed"}
BUTTONS = '<form method="post"><button name="outcome" value="succeeded">Pay</button> <button name="outcome" value="failed">Let it fail</button></form>'
router = APIRouter(prefix="/api/payments/mock/pay", include_in_schema=False, redirect_slashes=False)


@router.get("/{deposit_id}/")
@router.get("/{deposit_id}")
async def page(context: Context, deposit_id: str) -> HTMLResponse:
    """Show the deposit and what may become of it."""
    payment, _ = await _deposit(context, deposit_id)
    is_open = payment.status == "PENDING"
    back = escape(way_back("", payment.text_id, "canceled" if is_open else ENDED[payment.status]))
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Development payment</title><style>{STYLE}</style></head><body><main><h1>Development payment</h1>"
        f"<p>Deposit <code>{escape(payment.text_id)}</code> of {credits_text(payment.amount)} {escape(payment.currency)}: {payment.status}</p>"
        f'{BUTTONS if is_open else ""}<p><a href="{back}">Back to the wallet</a></p>'
        "<p>No money moves: this page is there in development alone.</p></main></body></html>",
        headers=POLICY,
    )


@router.post("/{deposit_id}/")
@router.post("/{deposit_id}")
async def press(request: Request, context: Context, deposit_id: str) -> Response:
    """Send the signed event to ourselves, through the same checks as one from outside."""
    payment, mock = await _deposit(context, deposit_id)
    said = parse_qs((await request.body()).decode("latin-1")).get("outcome", [""])[0]
    chosen = next((outcome for outcome in ENDINGS if outcome == said), None)
    if chosen is None:
        raise InvalidRequest("outcome", f'"{said[:20]}" is not a valid choice.')
    headers, body = mock.signed(payment, chosen)
    event = await inbox.receive(context.payments, mock, headers, body, payment.id)
    if event is not None:
        await inbox.work(context.payments, mock.name, event)
    return RedirectResponse(way_back("", payment.text_id, ENDINGS[chosen]), 303)


async def _deposit(context: LedgerContext, text: str) -> tuple[Payment, MockGateway]:
    id_, mock = rows.read_id(text), context.payments.mock
    found = await context.database.run(lambda connection: rows.find_payment(connection, id_))
    if found is None or mock is None or found.kind != "DEPOSIT" or found.gateway != mock.name:
        raise NotFound("Transaction", text[:60])
    return found, mock

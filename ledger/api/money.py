"""What people read of their money beside the wallet: earnings, a past balance, the statement as CSV; and what things cost."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from starlette.responses import StreamingResponse

from ledger import pricing
from ledger.amounts import credits_text
from ledger.api.callers import Context, caller_with
from ledger.api.money_shapes import (
    EarningsAnswer,
    EarningsOfDay,
    EarningsOfModel,
    EarningsOfNode,
    EscrowAnswer,
    PastBalanceAnswer,
    PriceAnswer,
    PriceList,
    Quote,
    QuoteAsked,
)
from ledger.api.routes import both, moment
from ledger.api.shapes import Kind
from ledger.context import LedgerContext
from ledger.errors import InvalidRequest
from ledger.identity.credentials import Principal
from ledger.ids import text_of
from ledger.money import history, statements
from ledger.money.earnings import Sum
from ledger.pricing import PriceRow
from ledger.verification import escrows
from ledger.verification.escrows import Escrow

CSV_PAGE = 500
CSV_COLUMNS = ("id", "created_at", "kind", "description", "job_id", "amount", "balance_after")
router = APIRouter(prefix="/api/payments", redirect_slashes=False)
Reader = Annotated[Principal, caller_with("wallet:read")]
Days = Annotated[int, Query(ge=1, le=365, description="How many days, today included.")]


@both(router, "GET", "/earnings/", id="get_earnings")
async def earnings(context: Context, caller: Reader, days: Days = 30) -> EarningsAnswer:
    """What the caller's nodes have earned: ever, in these days, by day, model and node; and what of it waits until when."""
    found = await context.earnings.report(caller.person, days, datetime.now(UTC))
    fixed = context.settings.payout_delay
    waiting = await context.database.run(lambda connection: escrows.escrows_of(connection, caller.person, fixed))
    released = await statements.withdrawable(context.database, caller.person)
    return EarningsAnswer(
        total=credits_text(found.total.earned), period=credits_text(found.period.earned), jobs=found.period.jobs,
        pending=credits_text(sum(one.held for one in waiting)), released=credits_text(released),
        by_day=[EarningsOfDay(date=day.isoformat(), **_sum(one)) for day, one in found.by_day],
        by_model=[EarningsOfModel(model=model, **_sum(one)) for model, one in found.by_model],
        by_node=[EarningsOfNode(node_id=node, name=name, **_sum(one)) for node, name, one in found.by_node],
        escrows=[escrow_answer(one) for one in waiting],
    )  # fmt: skip


def escrow_answer(one: Escrow) -> EscrowAnswer:
    """Write what waits."""
    return EscrowAnswer(
        node_id=one.node, name=one.name, amount=credits_text(one.held), first_at=moment(one.first_at) if one.first_at else None,
        last_at=moment(one.last_at) if one.last_at else None,
    )  # fmt: skip


def _sum(one: Sum) -> dict[str, str | int]:
    return {"earned": credits_text(one.earned), "jobs": one.jobs}


@both(router, "GET", "/balance/", id="get_past_balance")
async def past_balance(context: Context, caller: Reader, at: AwareDatetime) -> PastBalanceAnswer:
    """What the caller had at a moment, summed from the entries up to it."""
    found = await history.balance_at(context.database, caller.person, at)
    return PastBalanceAnswer(
        at=moment(at), total=credits_text(found.promotional + found.paid), promotional=credits_text(found.promotional),
        paid=credits_text(found.paid), pending=credits_text(found.pending), earned=credits_text(found.earned),
    )  # fmt: skip


@both(router, "GET", "/statement.csv", id="get_statement_csv", refusals=(400, 401, 403, 503))
async def statement_csv(context: Context, caller: Reader, kind: Annotated[Kind | None, Query()] = None) -> StreamingResponse:
    """The whole log as CSV, newest first; one page is in memory at a time."""
    first = await statements.log_page(context.database, caller.person, limit=CSV_PAGE, kind=kind)
    headers = {"Content-Disposition": 'attachment; filename="statement.csv"'}
    return StreamingResponse(_lines(context, caller, kind, first), media_type="text/csv; charset=utf-8", headers=headers)


async def _lines(context: LedgerContext, caller: Principal, kind: Kind | None, page: statements.Page) -> AsyncIterator[str]:
    yield _csv(CSV_COLUMNS)
    while True:
        for entry in page.log:
            yield _csv(
                (
                    text_of("txn", entry.txn), moment(entry.at), entry.kind, entry.description, entry.job or "", credits_text(entry.amount),
                    credits_text(entry.balance_after),
                )
            )  # fmt: skip
        if page.next_before is None:
            return
        page = await statements.log_page(context.database, caller.person, limit=CSV_PAGE, before=page.next_before, kind=kind)


def _csv(cells: tuple[str, ...]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(["'" + cell if cell[:1] in "=+@\t" and cell else cell for cell in cells])
    return line.getvalue()


@both(router, "GET", "/prices/", id="list_prices", refusals=(503,), public=True)
async def prices(context: Context) -> PriceList:
    """What jobs cost now: the default, and the models that have a price of their own."""
    default, by_model = await context.prices.all()
    return PriceList(default=_price(default), models={model: _price(row) for model, row in sorted(by_model.items())})


def _price(row: PriceRow) -> PriceAnswer:
    return PriceAnswer(
        version=row.version, job=credits_text(row.flat), prompt_per_million=credits_text(row.prompt_per_million),
        completion_per_million=credits_text(row.completion_per_million),
    )  # fmt: skip


@both(router, "POST", "/quote/", id="quote", refusals=(400, 503), public=True)
async def quote(context: Context, body: QuoteAsked) -> Quote:
    """The most a job would cost: what its hold would reserve. Nothing is held."""
    (price,) = await context.prices.prices([body.model])
    amount = pricing.quote(price, body.prompt_tokens, body.max_tokens)
    if amount >= 10**15:
        raise InvalidRequest("max_tokens", "A job of this size costs more than the ledger can hold.")
    return Quote(model=body.model, amount=credits_text(amount), price=_price(price))

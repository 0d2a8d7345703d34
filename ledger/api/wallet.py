"""The service's health, and what a person owns: balance, open holds, the log of entries."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse

from ledger.amounts import credits_text
from ledger.api.callers import Context, caller_with
from ledger.api.cursors import Cursor, Limit, read_position, write_position
from ledger.api.routes import both, moment
from ledger.api.shapes import Health, HeldCredits, Kind, LogRow, WalletAnswer
from ledger.db import Connection, DatabaseUnavailable
from ledger.identity.credentials import Principal
from ledger.ids import text_of
from ledger.money import statements

router = APIRouter(prefix="/api", redirect_slashes=False)
WalletReader = Annotated[Principal, caller_with("wallet:read")]


@router.get(
    "/core/health/",
    operation_id="get_health",
    response_model=Health,
    tags=["public"],
    responses={503: {"model": Health, "description": "not now"}},
)
@router.get("/core/health", include_in_schema=False, tags=["public"])
async def health(context: Context) -> JSONResponse:
    """Tell whether the service and its database answer."""

    async def ask(connection: Connection) -> None:
        await connection.execute("SELECT 1")

    try:
        await context.database.run(ask)
    except DatabaseUnavailable as broken:
        return JSONResponse({"status": "unavailable", "database": str(broken)}, 503, {"Retry-After": "2"})
    return JSONResponse({"status": "ok", "database": "ok"})


@both(router, "GET", "/payments/wallet/", id="get_wallet")
async def get_wallet(
    context: Context, caller: WalletReader, limit: Limit = 20, cursor: Cursor = None, kind: Annotated[Kind | None, Query()] = None
) -> WalletAnswer:
    """Balance, open holds and entries, newest first. balance + held = total, always: they are read in one snapshot."""
    found = await statements.wallet(context.database, caller.person, limit=limit, before=read_position(cursor), kind=kind)
    return WalletAnswer(
        balance=credits_text(found.balance.available),
        held=credits_text(found.balance.held),
        total=credits_text(found.balance.total),
        withdrawable=credits_text(found.balance.withdrawable),
        holds=[HeldCredits(job_id=hold.job, amount=credits_text(hold.amount), created_at=moment(hold.at)) for hold in found.holds],
        logs=[_log_row(entry, caller.caller.username) for entry in found.log],
        next=write_position(found.next_before),
    )


def _log_row(entry: statements.LogEntry, username: str) -> LogRow:
    return LogRow.model_validate(
        {
            "id": text_of("txn", entry.txn), "amount": credits_text(entry.amount), "description": entry.description,
            "created_at": moment(entry.at), "user": username, "kind": entry.kind, "job_id": entry.job,
            "balance_after": credits_text(entry.balance_after),
        }
    )  # fmt: skip

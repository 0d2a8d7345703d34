"""What people call: health, wallet, keys."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, Response

from ledger.amounts import credits_text
from ledger.api.cursors import read_mark, read_position, write_mark, write_position
from ledger.api.shapes import Health, HeldCredits, KeyRowAnswer, Keys, Kind, LogRow, MadeKey, NewKey, Problem, WalletAnswer
from ledger.context import LedgerContext
from ledger.db import Connection, DatabaseUnavailable
from ledger.errors import InvalidRequest, NotAuthenticated, NotPermitted
from ledger.identity.api_keys import ALL_SCOPES, KeyRow, KeySummary
from ledger.ids import text_of
from ledger.money import statements

MAX_PAGE = 100
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        400: "a field is wrong", 401: "no key, a mistyped one, a revoked one", 403: "the key lacks a scope", 503: "the database does not answer",
    }.items()
}  # fmt: skip
router = APIRouter(prefix="/api", redirect_slashes=False)


def context_of(request: Request) -> LedgerContext:
    """The service's context."""
    context: LedgerContext = request.app.state.context
    return context


Context = Annotated[LedgerContext, Depends(context_of)]


def caller_with(scope: str) -> Any:
    """A dependency: the key that calls, which must have this scope."""

    async def caller(request: Request, context: Context) -> KeyRow:
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not credential.strip():
            raise NotAuthenticated
        key = await context.keys.verify(credential.strip())
        if scope not in key.scopes:
            raise NotPermitted(scope)
        return key

    return Depends(caller)


WalletReader = Annotated[KeyRow, caller_with("wallet:read")]
KeyOwner = Annotated[KeyRow, caller_with("keys:write")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Rows per page.")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next` of the page before.")]


@router.get("/core/health/", operation_id="get_health", response_model=Health, responses={503: {"model": Health, "description": "not now"}})
@router.get("/core/health", include_in_schema=False)
async def health(context: Context) -> JSONResponse:
    """Tell whether the service and its database answer."""

    async def ask(connection: Connection) -> None:
        await connection.execute("SELECT 1")

    try:
        await context.database.run(ask)
    except DatabaseUnavailable as broken:
        return JSONResponse({"status": "unavailable", "database": str(broken)}, 503, {"Retry-After": "2"})
    return JSONResponse({"status": "ok", "database": "ok"})


@router.get("/payments/wallet/", operation_id="get_wallet", responses=REFUSALS)
@router.get("/payments/wallet", include_in_schema=False)
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
        holds=[HeldCredits(job_id=hold.job, amount=credits_text(hold.amount), created_at=_moment(hold.at)) for hold in found.holds],
        logs=[_log_row(entry, caller.caller.username) for entry in found.log],
        next=write_position(found.next_before),
    )


def _log_row(entry: statements.LogEntry, username: str) -> LogRow:
    return LogRow.model_validate(
        {
            "id": text_of("txn", entry.txn), "amount": credits_text(entry.amount), "description": entry.description,
            "created_at": _moment(entry.at), "user": username, "kind": entry.kind, "job_id": entry.job,
            "balance_after": credits_text(entry.balance_after),
        }
    )  # fmt: skip


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


@router.get("/core/keys/", operation_id="list_keys", responses=REFUSALS)
@router.get("/core/keys", include_in_schema=False)
async def list_keys(context: Context, caller: KeyOwner, limit: Limit = MAX_PAGE, cursor: Cursor = None) -> Keys:
    """List the caller's keys, newest first; never the keys themselves."""
    rows = await context.keys.list_keys(caller.person, limit=limit + 1, before=read_mark(cursor))
    last = rows[limit - 1] if len(rows) > limit else None
    return Keys(results=[_key_row(row) for row in rows[:limit]], next=write_mark((last.created_at, last.id) if last else None))


def _key_row(key: KeySummary) -> KeyRowAnswer:
    return KeyRowAnswer(
        id=key.id,
        name=key.name,
        scopes=list(key.scopes),
        created_at=_moment(key.created_at),
        last_used_at=_moment(key.last_used_at) if key.last_used_at else None,
        revoked_at=_moment(key.revoked_at) if key.revoked_at else None,
    )


@router.post("/core/keys/", operation_id="create_key", status_code=201, responses=REFUSALS)
@router.post("/core/keys", include_in_schema=False, status_code=201)
async def create_key(context: Context, caller: KeyOwner, body: NewKey) -> MadeKey:
    """Make a key; it is shown this once. A key can give no scope that it does not have."""
    scopes = tuple(dict.fromkeys(body.scopes)) if body.scopes is not None else caller.scopes
    unknown = [scope for scope in scopes if scope not in ALL_SCOPES]
    if unknown:
        raise InvalidRequest("scopes", f'"{unknown[0][:60]}" is not a valid choice.')
    if missing := [scope for scope in scopes if scope not in caller.scopes]:
        raise NotPermitted(missing[0])
    key = await context.keys.create(caller.person, body.name, scopes)
    return MadeKey(id=key.split("_")[2], key=key, name=body.name, scopes=list(scopes), user=text_of("user", caller.person))


@router.delete(
    "/core/keys/{key_id}/",
    operation_id="delete_key",
    status_code=204,
    responses=REFUSALS | {404: {"model": Problem, "description": "unknown"}},
)
@router.delete("/core/keys/{key_id}", include_in_schema=False, status_code=204)
@router.post(
    "/core/keys/{key_id}/revoke/",
    operation_id="revoke_key",
    status_code=204,
    responses=REFUSALS | {404: {"model": Problem, "description": "unknown"}},
)
@router.post("/core/keys/{key_id}/revoke", include_in_schema=False, status_code=204)
async def revoke_key(context: Context, caller: KeyOwner, key_id: str) -> Response:
    """Revoke one of the caller's keys, the calling one included."""
    await context.keys.revoke(caller.person, key_id)
    return Response(status_code=204)

"""What people call: health, wallet, keys."""

import base64
import json
import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from ledger.amounts import credits_text
from ledger.context import LedgerContext
from ledger.db import Connection, DatabaseUnavailable
from ledger.errors import InvalidRequest, NotAuthenticated, NotPermitted
from ledger.identity.api_keys import ALL_SCOPES, KeyRow
from ledger.ids import text_of
from ledger.money import statements

router = APIRouter(prefix="/api", redirect_slashes=False)
MAX_PAGE = 100


def context_of(request: Request) -> LedgerContext:
    """The service's context."""
    context: LedgerContext = request.app.state.context
    return context


Context = Annotated[LedgerContext, Depends(context_of)]


def caller_with(scope: str) -> Any:
    """A dependency: the key that calls, which must have this scope."""

    async def caller(request: Request, context: Context) -> KeyRow:
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not credential:
            raise NotAuthenticated
        key = await context.keys.verify(credential.strip())
        if scope not in key.scopes:
            raise NotPermitted(scope)
        return key

    return Depends(caller)


WalletReader = Annotated[KeyRow, caller_with("wallet:read")]
KeyOwner = Annotated[KeyRow, caller_with("keys:write")]


@router.get("/core/health/", operation_id="get_health")
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


@router.get("/payments/wallet/", operation_id="get_wallet")
@router.get("/payments/wallet", include_in_schema=False)
async def get_wallet(
    context: Context, caller: WalletReader, limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 20, cursor: str | None = None
) -> dict[str, Any]:
    """Balance, open holds and entries, newest first. balance + held = total, always: they are read in one snapshot."""
    found = await statements.wallet(context.database, caller.person, limit=limit, before=_read_cursor(cursor))
    return {
        "balance": credits_text(found.balance.available),
        "held": credits_text(found.balance.held),
        "total": credits_text(found.balance.total),
        "withdrawable": credits_text(found.balance.withdrawable),
        "currency": "CREDIT",
        "holds": [{"job_id": hold.job, "amount": credits_text(hold.amount), "created_at": hold.at.isoformat()} for hold in found.holds],
        "logs": [statements.log_row(entry, caller.username) for entry in found.log],
        "next": _write_cursor(found.next_before),
    }


def _write_cursor(before: tuple[datetime, uuid.UUID] | None) -> str | None:
    if before is None:
        return None
    return base64.urlsafe_b64encode(json.dumps([before[0].isoformat(), before[1].hex]).encode()).decode().rstrip("=")


def _read_cursor(text: str | None) -> tuple[datetime, uuid.UUID] | None:
    if text is None:
        return None
    try:
        at, txn = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return datetime.fromisoformat(at), uuid.UUID(txn)
    except (ValueError, TypeError) as wrong:
        raise InvalidRequest("cursor", "This cursor is not one of ours; start again without it.") from wrong


class NewKey(BaseModel):
    """What a new key is to be."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=100)
    scopes: list[str] | None = None


@router.get("/core/keys/", operation_id="list_keys")
@router.get("/core/keys", include_in_schema=False)
async def list_keys(context: Context, caller: KeyOwner) -> dict[str, Any]:
    """List the caller's keys, newest first; never the keys themselves."""
    return {
        "results": [
            {
                "id": key.id,
                "name": key.name,
                "scopes": list(key.scopes),
                "created_at": key.created_at.isoformat(),
                "last_used_at": key.last_used_at.isoformat() if key.last_used_at else None,
                "revoked_at": key.revoked_at.isoformat() if key.revoked_at else None,
            }
            for key in await context.keys.list_keys(caller.person)
        ],
        "next": None,
    }


@router.post("/core/keys/", operation_id="create_key", status_code=201)
@router.post("/core/keys", include_in_schema=False, status_code=201)
async def create_key(context: Context, caller: KeyOwner, body: NewKey) -> JSONResponse:
    """Make a key; it is shown this once. A key can give no scope that it does not have."""
    scopes = tuple(body.scopes) if body.scopes is not None else caller.scopes
    unknown = [scope for scope in scopes if scope not in ALL_SCOPES]
    if unknown:
        raise InvalidRequest("scopes", f'"{unknown[0]}" is not a valid choice.')
    if missing := [scope for scope in scopes if scope not in caller.scopes]:
        raise NotPermitted(missing[0])
    key = await context.keys.create(caller.person, body.name, scopes)
    answer = {"id": key.split("_")[2], "key": key, "name": body.name, "scopes": list(scopes), "user": text_of("user", caller.person)}
    return JSONResponse(answer, 201, {"Cache-Control": "no-store"})


@router.post("/core/keys/{key_id}/revoke/", operation_id="revoke_key", status_code=204)
@router.post("/core/keys/{key_id}/revoke", include_in_schema=False, status_code=204)
async def revoke_key(context: Context, caller: KeyOwner, key_id: str) -> Response:
    """Revoke one of the caller's keys, the calling one included."""
    await context.keys.revoke(caller.person, key_id)
    return Response(status_code=204)

"""API keys of the caller: list, make, change, revoke."""

from datetime import UTC, datetime
from typing import Annotated, Any, cast

from fastapi import APIRouter, Request
from starlette.responses import Response

from ledger.amounts import credits_text
from ledger.api.callers import Context, caller_with, of
from ledger.api.cursors import MAX_PAGE, Cursor, Limit, read_mark, write_mark
from ledger.api.key_shapes import KeyChange, KeyLimits, KeyRowAnswer, Keys, MadeKey, NewKey
from ledger.api.routes import both, moment
from ledger.errors import InvalidRequest, NotPermitted
from ledger.identity.api_keys import KeySummary, Limits
from ledger.identity.credentials import Principal
from ledger.identity.people import ALL_SCOPES
from ledger.ids import text_of

router = APIRouter(prefix="/api/core", redirect_slashes=False)
KeyOwner = Annotated[Principal, caller_with("keys:write")]


@both(router, "GET", "/keys/", id="list_keys")
async def list_keys(context: Context, caller: KeyOwner, limit: Limit = MAX_PAGE, cursor: Cursor = None) -> Keys:
    """List the caller's keys, newest first; never the keys themselves."""
    rows = await context.keys.list_keys(caller.person, limit=limit + 1, before=read_mark(cursor))
    last = rows[limit - 1] if len(rows) > limit else None
    return Keys(results=[_key_row(row) for row in rows[:limit]], next=write_mark((last.created_at, last.id) if last else None))


def _key_row(key: KeySummary) -> KeyRowAnswer:
    return KeyRowAnswer(
        id=key.id, name=key.name, scopes=list(key.scopes), created_at=moment(key.created_at),
        last_used_at=moment(key.last_used_at) if key.last_used_at else None, revoked_at=moment(key.revoked_at) if key.revoked_at else None,
        **_shown(key.limits),
    )  # fmt: skip


def _shown(limits: Limits) -> dict[str, Any]:
    """Write limits as the API shows them: money as text, times as RFC 3339."""
    shown: dict[str, Any] = {
        "privacy": limits.get("privacy", "community"),
        "per_minute": limits.get("per_minute"),
        "models": limits.get("models"),
    }
    for name in ("budget_day", "budget_month", "budget_total"):
        amount = limits.get(name)
        shown[name] = None if amount is None else credits_text(int(str(amount)))
    expires_at = limits.get("expires_at")
    return shown | {"expires_at": moment(expires_at) if expires_at else None}


def _limits_of(body: KeyLimits) -> Limits:
    """Read the limits that a body names."""
    given = body.model_dump(include=body.model_fields_set & set(KeyLimits.model_fields))
    if given.get("privacy", "") is None:
        raise InvalidRequest("privacy", "This field may not be null.")
    expires_at = given.get("expires_at")
    if isinstance(expires_at, datetime):
        if expires_at <= datetime.now(UTC):
            raise InvalidRequest("expires_at", "This time has passed.")
        given["expires_at"] = expires_at
    return cast("Limits", given)


@both(router, "POST", "/keys/", id="create_key", status=201)
async def create_key(context: Context, caller: KeyOwner, body: NewKey, request: Request) -> MadeKey:
    """Make a key; it is shown this once. A key can give no scope that it does not have, and no wider limits than its own."""
    allowed = tuple(scope for scope in caller.scopes if scope in ALL_SCOPES)
    scopes = tuple(dict.fromkeys(body.scopes)) if body.scopes is not None else allowed
    if unknown := [scope for scope in scopes if scope not in ALL_SCOPES]:
        raise InvalidRequest("scopes", f'"{unknown[0][:60]}" is not a valid choice.')
    if missing := [scope for scope in scopes if scope not in allowed]:
        raise NotPermitted(missing[0])
    limits = _limits_of(body)
    _require_no_escape(caller)
    key = await context.keys.create(caller.person, body.name, scopes, limits, of(caller, request))
    return MadeKey(
        id=key.split("_")[2], key=key, name=body.name, scopes=list(scopes), user=text_of("user", caller.person), **_shown(limits)
    )


def _require_no_escape(caller: Principal) -> None:
    """Refuse a limited key that would make or change keys: it could lift its own limits.

    Raises:
        NotPermitted: It is limited.
    """
    if caller.key is not None and any(value not in {None, "community"} for value in map(_hashable, caller.key.limits.values())):
        raise NotPermitted("keys:write")


def _hashable(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


@both(router, "PATCH", "/keys/{key_id}/", id="change_key", refusals=(400, 401, 403, 404, 503))
async def change_key(context: Context, caller: KeyOwner, key_id: str, body: KeyChange, request: Request) -> KeyRowAnswer:
    """Rename a key or change its limits; null lifts one. What its budgets have spent stays spent."""
    _require_no_escape(caller)
    if "name" in body.model_fields_set and body.name is None:
        raise InvalidRequest("name", "This field may not be null.")
    if not body.model_fields_set:
        raise InvalidRequest("", "Send at least one field to change.")
    return _key_row(await context.keys.change(caller.person, key_id, body.name, _limits_of(body), of(caller, request)))


@both(router, "DELETE", "/keys/{key_id}/", id="delete_key", status=204, refusals=(401, 403, 404, 503))
async def delete_key(context: Context, caller: KeyOwner, key_id: str, request: Request) -> Response:
    """Revoke one of the caller's keys, the calling one included."""
    await context.keys.revoke(caller.person, key_id, of(caller, request))
    return Response(status_code=204)


@both(router, "POST", "/keys/{key_id}/revoke/", id="revoke_key", status=204, refusals=(401, 403, 404, 503))
async def revoke_key(context: Context, caller: KeyOwner, key_id: str, request: Request) -> Response:
    """Revoke one of the caller's keys, the calling one included."""
    return await delete_key(context, caller, key_id, request)

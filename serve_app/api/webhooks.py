"""`/api/computing/webhooks/`: where an account's programs are told of its jobs' ends, with which secret, and what became of each delivery."""

import base64
import json
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cluster.dialects.fields import Fields
from cluster.errors import InvalidRequest
from ledger.client import job_id, new_uuid7, text_of, uuid_of
from serve_app.api.answering_json import NOT_KEPT, both, require_caller
from serve_app.api.bodies import read_json
from serve_app.context import ServeContext
from serve_app.errors import UnknownWebhook, WebhookDisabled
from serve_app.problems import PlainJSON
from serve_app.webhooks.records import JOB_EVENTS, Delivery, DeliveryState, Endpoint
from serve_app.webhooks.signing import Signer

LOOK, CHANGE = "jobs:read", "jobs:write"
DESCRIPTION_CHARS = 200
KEY_CHARS = 64
PAGE, MOST_PER_PAGE = 20, 100
WIRE_STATES = {DeliveryState.PENDING: "pending", DeliveryState.DELIVERED: "delivered", DeliveryState.GIVEN_UP: "failed"}

Handler = Callable[[Request, ServeContext, str], Awaitable[Any]]


def _of_owner(handler: Handler, scope: str, status: int) -> Callable[[Request, ServeContext], Awaitable[Any]]:
    """Ask who calls, and tell the handler."""

    async def answer(request: Request, context: ServeContext) -> Any:
        caller = await require_caller(request, context, scope)
        said = await handler(request, context, caller.user)
        return Response(status_code=204, headers=NOT_KEPT) if said is None else PlainJSON(said, status, NOT_KEPT)

    return answer


# --- endpoints ------------------------------------------------------------------------------------------------------------------------


async def list_endpoints(request: Request, context: ServeContext, user: str) -> Any:
    """`GET /api/computing/webhooks/`: all of them, there are few."""
    return {"results": [_row(one) for one in await context.webhooks.endpoints.list(user)], "next": None}


async def add(request: Request, context: ServeContext, user: str) -> Any:
    """`POST /api/computing/webhooks/`: its secret is shown this once."""
    fields = await _fields(request, {"url", "events", "key", "include_result", "description"})
    url = fields.text("url")
    if not url:
        raise InvalidRequest("`url` is required.", "url")
    endpoint = await context.webhooks.endpoints.add(
        new_uuid7(), user, key=_key(fields), url=await context.webhooks.check_url(url, "url"), events=_events(fields) or JOB_EVENTS,
        has_result=fields.flag("include_result"), description=_description(fields) or "", limit=context.settings.webhook_endpoints,
    )  # fmt: skip
    return _row(endpoint) | _secret(context, endpoint.signer)


async def show(request: Request, context: ServeContext, user: str) -> Any:
    """`GET /api/computing/webhooks/<id>/`."""
    return _row(await context.webhooks.endpoints.find(_id(request, "wh"), user))


async def change(request: Request, context: ServeContext, user: str) -> Any:
    """`PATCH /api/computing/webhooks/<id>/`: url, events, include_result, description, enabled."""
    id_ = _id(request, "wh")
    fields = await _fields(request, {"url", "events", "include_result", "description", "enabled"})
    url = fields.text("url")
    endpoint = await context.webhooks.endpoints.change(
        id_, user, url=None if url is None else await context.webhooks.check_url(url, "url"), events=_events(fields), has_result=_choice(fields, "include_result"),
        description=_description(fields), is_enabled=_choice(fields, "enabled"),
    )  # fmt: skip
    return _row(endpoint)


async def remove(request: Request, context: ServeContext, user: str) -> Any:
    """`DELETE /api/computing/webhooks/<id>/`: what waits for it is not sent any more."""
    await context.webhooks.endpoints.remove(_id(request, "wh"), user)


async def rotate(request: Request, context: ServeContext, user: str) -> Any:
    """`POST /api/computing/webhooks/<id>/rotate/`: the new secret, shown this once; for 24 hours the old one signs too."""
    endpoint = await context.webhooks.endpoints.rotate(_id(request, "wh"), user)
    return _row(endpoint) | _secret(context, endpoint.signer)


async def show_secret(request: Request, context: ServeContext, user: str) -> Any:
    """`GET /api/computing/webhooks/secret/`: the account's secret, which signs what goes to the URLs of single jobs."""
    return _secret(context, await context.webhooks.endpoints.account(user))


async def rotate_secret(request: Request, context: ServeContext, user: str) -> Any:
    """`POST /api/computing/webhooks/secret/rotate/`."""
    return _secret(context, await context.webhooks.endpoints.rotate_account(user))


# --- deliveries -----------------------------------------------------------------------------------------------------------------------


async def send_test(request: Request, context: ServeContext, user: str) -> Any:
    """`POST /api/computing/webhooks/<id>/test/`: queue a `webhook.test`; one that waits already is answered again."""
    endpoint = await context.webhooks.endpoints.find(_id(request, "wh"), user)
    if endpoint.disabled_at is not None:
        raise WebhookDisabled
    delivery = await context.webhooks.outbox.test(endpoint.id, user)
    if delivery is None:
        raise UnknownWebhook
    return _delivery(delivery)


async def list_deliveries(request: Request, context: ServeContext, user: str) -> Any:
    """`GET /api/computing/webhooks/<id>/deliveries/`, or `…/webhooks/deliveries/` for all of the account: newest first, by pages."""
    webhook = None
    if "id" in request.path_params:
        webhook = (await context.webhooks.endpoints.find(_id(request, "wh"), user)).id
    limit = _limit(request.query_params.get("limit"))
    rows = await context.webhooks.outbox.list(user, webhook, _cursor(request.query_params.get("cursor")), limit + 1)
    return {"results": [_delivery(one) for one in rows[:limit]], "next": _write_cursor(rows[limit - 1].seq) if len(rows) > limit else None}


async def resend(request: Request, context: ServeContext, user: str) -> Any:
    """`POST /api/computing/webhooks/deliveries/<id>/resend/`: the same event with the same id, at once; then tried for 24 hours again."""
    id_ = _id(request, "evt")
    delivery = await context.webhooks.outbox.resend(id_, user)
    if delivery is None:
        if await context.webhooks.outbox.exists(id_, user):
            raise WebhookDisabled
        raise UnknownWebhook
    return _delivery(delivery)


# --- reading --------------------------------------------------------------------------------------------------------------------------


def _id(request: Request, prefix: str) -> uuid.UUID:
    try:
        return uuid_of(prefix, str(request.path_params["id"]))
    except ValueError as wrong:
        raise UnknownWebhook from wrong


async def _fields(request: Request, known: set[str]) -> Fields:
    body = await read_json(request)
    for name in body:
        if name not in known:
            raise InvalidRequest("Unknown field.", name[:60].encode(errors="replace").decode())
    return Fields(body)


def _events(fields: Fields) -> tuple[str, ...] | None:
    said = fields.body.get("events")
    if said is None:
        return None
    if not isinstance(said, list) or not said or any(one not in JOB_EVENTS for one in said):
        raise InvalidRequest(f"`events` must be a list of one or more of {', '.join(JOB_EVENTS)}.", "events")
    return tuple(name for name in JOB_EVENTS if name in said)


def _choice(fields: Fields, name: str) -> bool | None:
    return None if fields.body.get(name) is None else fields.flag(name)


def _description(fields: Fields) -> str | None:
    return _short(fields, "description", DESCRIPTION_CHARS)


def _key(fields: Fields) -> str | None:
    return _short(fields, "key", KEY_CHARS) or None


def _short(fields: Fields, name: str, limit: int) -> str | None:
    text = fields.text(name)
    if text is not None and (len(text) > limit or not text.isprintable()):
        raise InvalidRequest(f"`{name}` must be at most {limit} printable characters.", name)
    return text


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE
    if not (text.isascii() and text.isdecimal()) or len(text) > 3 or not 1 <= int(text) <= MOST_PER_PAGE:
        raise InvalidRequest(f"`limit` must be a whole number from 1 to {MOST_PER_PAGE}.", "limit")
    return int(text)


def _cursor(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        (seq,) = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError) as wrong:
        raise InvalidRequest("`cursor` must be `next` of the page before.", "cursor") from wrong
    if type(seq) is not int or not 0 < seq < 2**63:
        raise InvalidRequest("`cursor` must be `next` of the page before.", "cursor")
    return seq


def _write_cursor(seq: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([seq]).encode()).decode().rstrip("=")


# --- writing --------------------------------------------------------------------------------------------------------------------------


def _row(one: Endpoint) -> dict[str, Any]:
    return {
        "id": text_of("wh", one.id), "url": one.url, "events": list(one.events), "key": one.key, "include_result": one.has_result,
        "description": one.description, "enabled": one.disabled_at is None, "disabled_at": _time(one.disabled_at), "disabled_reason": one.disabled_why,
        "failing_since": _time(one.failing_since), "created_at": one.created_at.isoformat(),
    }  # fmt: skip


def _secret(context: ServeContext, signer: Signer) -> dict[str, Any]:
    return {
        "secret": context.webhooks.secrets.secret(signer),
        "secret_version": signer.version,
        "secret_rotated_at": _time(signer.rotated_at),
    }


def _delivery(one: Delivery) -> dict[str, Any]:
    return {
        "id": text_of("evt", one.id), "type": one.type, "webhook": text_of("wh", one.webhook) if one.webhook else None,
        "job": job_id(one.job) if one.job else None, "url": one.url, "status": WIRE_STATES[one.state], "attempts": one.attempts,
        "response_status": one.status, "error": one.error, "created_at": one.created_at.isoformat(), "last_attempt_at": _time(one.tried_at),
        "next_attempt_at": _time(one.next_at), "ended_at": _time(one.ended_at),
    }  # fmt: skip


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _both(path: str, handler: Handler, scope: str, method: str = "GET", status: int = 200) -> list[Route]:
    return both(path, _of_owner(handler, scope, status), method)


# Fixed names come before ids.
ROUTES = [
    *_both("/api/computing/webhooks/", list_endpoints, LOOK),
    *_both("/api/computing/webhooks/", add, CHANGE, "POST", 201),
    *_both("/api/computing/webhooks/secret/", show_secret, CHANGE),
    *_both("/api/computing/webhooks/secret/rotate/", rotate_secret, CHANGE, "POST"),
    *_both("/api/computing/webhooks/deliveries/", list_deliveries, LOOK),
    *_both("/api/computing/webhooks/deliveries/{id}/resend/", resend, CHANGE, "POST", 202),
    *_both("/api/computing/webhooks/{id}/", show, LOOK),
    *_both("/api/computing/webhooks/{id}/", change, CHANGE, "PATCH"),
    *_both("/api/computing/webhooks/{id}/", remove, CHANGE, "DELETE"),
    *_both("/api/computing/webhooks/{id}/rotate/", rotate, CHANGE, "POST"),
    *_both("/api/computing/webhooks/{id}/test/", send_test, CHANGE, "POST", 202),
    *_both("/api/computing/webhooks/{id}/deliveries/", list_deliveries, LOOK),
]

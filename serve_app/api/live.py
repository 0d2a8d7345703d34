"""Live updates: the socket `/ws/dashboard/` of the console (L6) and its twin for programs, `GET /api/computing/updates/`."""

import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import Any

import structlog
from starlette.requests import Request
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from cluster.errors import ClusterError, InvalidRequest
from ledger.client import LedgerError
from serve_app.api.sse import EventStream
from serve_app.auth import Callers, credential_of
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.errors import ServeError
from serve_app.live.frames import MAX_SEQ
from serve_app.live.hub import Hub
from serve_app.live.listener import Listener, ListenerClosed, TooSlow
from serve_app.live.messages import beat, error_message, event_of
from serve_app.live.session import CREDENTIAL_S, LIFETIME_S, SCOPE, Session
from serve_app.problems import as_problem_json, problem_of

log = structlog.get_logger()


async def dashboard(socket: WebSocket) -> None:
    """`/ws/dashboard/`. A page of another origin is refused before the upgrade; the credential comes in the first frame, never in the URL."""
    context: ServeContext = socket.app.state.context
    origin = socket.headers.get("origin")
    if origin is not None and origin not in context.settings.origins:
        log.info("live_origin_refused", origin=origin[:100])
        await socket.close()  # before it was accepted: 403
        return
    await Session(socket, socket.app.state.live, context.callers).run()


async def updates(request: Request) -> Any:
    """`GET /api/computing/updates/?since=<seq>`: the same as server-sent events, with the credential in the header."""
    context: ServeContext = request.app.state.context
    hub: Hub = request.app.state.live
    seats = ExitStack()
    try:
        since = _since(request)
        credential = credential_of(request.headers.get("authorization"))
        caller = await context.callers.require(credential, SCOPE)
        seats.enter_context(hub.seats.taken(caller.user))
        listener = await hub.join(caller.user, since)
    except (ServeError, LedgerError, ClusterError, DatabaseUnavailable, ListenerClosed) as error:
        seats.close()
        return as_problem_json(DatabaseUnavailable(0) if isinstance(error, ListenerClosed) else error)
    seats.callback(hub.leave, listener)
    return _Updates(_told(context.callers, credential, listener), seats)


class _Updates(EventStream):
    """A stream that gives its seats back, whether anything was sent or not."""

    def __init__(self, events: AsyncGenerator[bytes, None], seats: ExitStack) -> None:
        super().__init__(events, {})
        self._seats = seats

    async def __call__(self, *asgi: Any) -> None:
        """Send it."""
        with self._seats:
            await super().__call__(*asgi)


def _since(request: Request) -> int | None:
    """Read where to go on: `since`, or `Last-Event-ID`, which clients send when they reconnect.

    Raises:
        InvalidRequest: It is not a number from 0.
    """
    text = request.headers.get("last-event-id") or request.query_params.get("since")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or int(text) > MAX_SEQ:
        raise InvalidRequest("`since` must be a whole number from 0: the last `id` that you heard.", "since")
    return int(text)


async def _told(callers: Callers, credential: str, listener: Listener) -> AsyncGenerator[bytes, None]:
    """Write what the listener is told; a credential that ends meanwhile ends the stream, and so does its age."""
    began = checked = time.monotonic()
    try:
        while (now := time.monotonic()) - began < LIFETIME_S:
            if now - checked >= CREDENTIAL_S:
                checked = now
                await callers.require(credential, SCOPE)
            yield event_of(await listener.take(checked + CREDENTIAL_S - now) or [beat(listener.heard)])
    except TooSlow:
        yield event_of([error_message("too_slow", "Too much waited to be read. Come back: your client's Last-Event-ID says where it was.")])
    except ListenerClosed as closed:
        yield event_of([error_message("come_back", f"{closed}. Come back: your client's Last-Event-ID says where it was.")])
    except LedgerError as error:
        yield event_of([error_message(problem_of(error).code, str(error))])


ROUTES: list[BaseRoute] = [
    WebSocketRoute("/ws/dashboard/", dashboard),
    WebSocketRoute("/ws/dashboard", dashboard),
    Route("/api/computing/updates/", updates, methods=["GET"]),
    Route("/api/computing/updates", updates, methods=["GET"]),
]

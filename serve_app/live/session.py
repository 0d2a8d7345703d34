"""One live socket, from its first frame to its last. Whatever goes wrong ends it with a code that says what to do (docs/concepts/live-updates.md)."""

import asyncio
import random
import time
from collections.abc import Awaitable
from contextlib import suppress

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from ledger.client import Caller, LedgerUnavailable, NotAuthenticated, NotPermitted, RateLimited
from serve_app.auth import Callers, credential_of
from serve_app.db import DatabaseUnavailable
from serve_app.live.frames import Auth, FrameRefused, Ping, Subscribe, Unsubscribe, frame_from
from serve_app.live.hub import Hub
from serve_app.live.listener import Listener, ListenerClosed, TooSlow
from serve_app.live.messages import Message, beat, error_message, frame_of, message

log = structlog.get_logger()
SCOPE = "jobs:read"
FIRST_FRAME_S = 5.0
CREDENTIAL_S = 15.0  # so often a credential is checked again
LEDGER_SILENT_S = 60.0  # so long a socket stays open that nobody can check
BEAT_S = 15.0  # a client hears something at least so often
LIFETIME_S = 840.0  # then it comes back elsewhere: a replica that is replaced waits 900 s for its connections
LIFETIME_SPREAD = 0.1
STRIKES = 3
FRAMES, FRAMES_S = 60, 10.0  # a client may say so much in so long
CLOSE_LIMIT_S = 5.0  # for one that reads slowly

POLICY, FAILED, COME_BACK, FULL = 1008, 1011, 1012, 1013  # RFC 6455, 7.4.1 and its registry
UNAUTHENTICATED, FORBIDDEN, SLOW = 4401, 4403, 4408  # ours
AUTHENTICATED = message("authenticated")
PONG = message("pong")


class Ended(Exception):
    """The socket is to be closed with a code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Session:
    """An accepted socket. `credential` is the last one that was shown; `listener` is made when the first one was good."""

    def __init__(self, socket: WebSocket, hub: Hub, callers: Callers) -> None:
        self._socket = socket
        self._hub = hub
        self._callers = callers
        self._credential = ""
        self._strikes = 0
        self._heard: list[float] = []

    async def run(self) -> None:
        """Serve it to its end."""
        await self._socket.accept()
        code, reason = FAILED, "something went wrong on our side"
        try:
            await self._serve()
        except Ended as ended:
            code, reason = ended.code, ended.reason
        except WebSocketDisconnect:
            return
        except asyncio.CancelledError:
            code, reason = COME_BACK, "the replica ends: come back with `since`"
            raise
        except Exception:
            log.exception("live_socket_failed")
        finally:
            await self._close(code, reason)

    async def _serve(self) -> None:
        try:
            with self._hub.seats.waiting():
                caller, since = await self._authenticated()
            with self._hub.seats.taken(caller.user):
                await self._listen(caller, since)
        except RateLimited as full:
            raise Ended(FULL, str(full)) from full
        except DatabaseUnavailable as silent:
            raise Ended(FULL, "the database does not answer now, come back soon") from silent
        except TooSlow as slow:
            raise Ended(SLOW, "too much waited to be read: come back with `since`") from slow
        except ListenerClosed as closed:
            raise Ended(COME_BACK, f"{closed}: come back with `since`") from closed

    async def _close(self, code: int, reason: str) -> None:
        if self._socket.application_state is WebSocketState.CONNECTED:
            with suppress(Exception):  # a client that reads nothing hears nothing, not even this
                await asyncio.wait_for(self._socket.close(code, _short(reason)), CLOSE_LIMIT_S)

    # --- who calls --------------------------------------------------------------------------------------------------------------------

    async def _authenticated(self) -> tuple[Caller, int | None]:
        """Wait for the first frame, which says who calls."""
        try:
            async with asyncio.timeout(FIRST_FRAME_S):
                while True:
                    frame = await self._next()
                    if isinstance(frame, Auth):
                        break
                    if frame is not None:
                        await self._refused(FrameRefused("not_authenticated", "The first frame must be `auth`."))
        except TimeoutError as silent:
            raise Ended(UNAUTHENTICATED, f"no `auth` frame within {FIRST_FRAME_S:g} s") from silent
        try:
            caller = await self._caller(frame.token)
        except LedgerUnavailable as silent:
            raise Ended(FULL, str(silent)) from silent
        await self._send([AUTHENTICATED])
        return caller, frame.since

    async def _caller(self, token: str) -> Caller:
        """Ask who shows a credential; keep it."""
        try:
            credential = credential_of(None, token)
            caller = await self._callers.require(credential, SCOPE)
        except NotAuthenticated as refused:
            raise Ended(UNAUTHENTICATED, str(refused)) from refused
        except NotPermitted as refused:
            raise Ended(FORBIDDEN, str(refused)) from refused
        self._credential = credential
        return caller

    async def _check(self, user: str) -> None:
        """See again and again whether the credential still stands. While the ledger is silent nothing can be revoked either; not for ever."""
        answered = time.monotonic()
        while True:
            await asyncio.sleep(CREDENTIAL_S)
            try:
                await self._require(user, self._credential)
            except LedgerUnavailable as silent:
                if time.monotonic() - answered > LEDGER_SILENT_S:
                    raise Ended(FULL, str(silent)) from silent
            else:
                answered = time.monotonic()

    async def _require(self, user: str, token: str) -> None:
        if (await self._caller(token)).user != user:
            raise Ended(UNAUTHENTICATED, "this token is another account's: open another socket for it")

    # --- what is said -----------------------------------------------------------------------------------------------------------------

    async def _listen(self, caller: Caller, since: int | None) -> None:
        """Tell and hear until one of both ends."""
        listener = await self._hub.join(caller.user, since)
        try:
            await _first_of(
                self._tell(listener), self._hear(listener), self._check(caller.user), listener.until_closed(), _until_old()
            )  # fmt: skip
        finally:
            self._hub.leave(listener)

    async def _tell(self, listener: Listener) -> None:
        while True:
            await self._send(await listener.take(BEAT_S) or [beat(listener.heard)])

    async def _send(self, messages: list[Message]) -> None:
        await self._socket.send_text(frame_of(messages))

    async def _hear(self, listener: Listener) -> None:
        while True:
            frame = await self._next(listener)
            match frame:
                case Auth():
                    with suppress(LedgerUnavailable):  # the one that was shown before still counts
                        await self._require(listener.user, frame.token)
                        listener.put([AUTHENTICATED])
                case Subscribe():
                    await self._hub.resume(listener, set(frame.kinds))
                case Unsubscribe():
                    listener.kinds -= set(frame.kinds)
                case Ping():
                    listener.put([PONG])

    async def _next(self, listener: Listener | None = None) -> Auth | Subscribe | Unsubscribe | Ping | None:
        """Hear a frame; None: it was none of ours, and the client has been told."""
        said = await self._socket.receive()
        if said["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(said.get("code", 1006))
        now = time.monotonic()
        self._heard = [one for one in self._heard if now - one < FRAMES_S] + [now]
        if len(self._heard) > FRAMES:
            raise Ended(POLICY, f"more than {FRAMES} frames within {FRAMES_S:g} s")
        try:
            return frame_from(said.get("text"))
        except FrameRefused as refused:
            await self._refused(refused, listener)
            return None

    async def _refused(self, refused: FrameRefused, listener: Listener | None = None) -> None:
        """Say what was wrong with a frame; the third time is the last."""
        self._strikes += 1
        said = [error_message(refused.code, refused.detail)]
        if listener is None or self._strikes >= STRIKES:
            await self._send(said)
        else:
            listener.put(said)
        if self._strikes >= STRIKES:
            raise Ended(POLICY, f"{STRIKES} frames that are none of ours")


async def _until_old() -> None:
    await asyncio.sleep(LIFETIME_S * (1 + LIFETIME_SPREAD * (random.random() - 1)))
    raise Ended(COME_BACK, "a socket does not live for ever: come back with `since`")


async def _first_of(*works: Awaitable[None]) -> None:
    """Run until the first ends, which it does by an exception."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _short(reason: str) -> str:
    """Cut a reason to what a closing frame can hold: 123 bytes."""
    return reason.encode()[:123].decode(errors="ignore")

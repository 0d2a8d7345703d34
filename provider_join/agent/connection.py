"""One WebSocket to an edge gateway: frames of the session out, frames of the platform in."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import aiohttp
import structlog

from cluster.edge import protocol as wire
from provider_join.agent.reconnect import ABNORMAL, Ended
from provider_join.agent.session import AgentSession, Effect

log = structlog.get_logger()
OPEN_LIMIT_S = 10.0
PING_S = 20.0
CLOSE_LIMIT_S = 2.0
LAST_WORDS_S = 1.0
TICK_S = 1.0
MAX_UNREADABLE = 10  # frames of the platform; a newer one may send kinds that this agent does not know


class Connection:
    """Connects, and moves frames until the connection ends."""

    def __init__(self, session: AgentSession, do: Callable[[Effect], None]) -> None:
        self._session = session
        self._do = do
        self._wake = asyncio.Event()
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    async def leave(self) -> None:
        """Close it, as after `bye`."""
        if self._socket:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    await self._socket.close(code=1000)

    async def run(self, http: aiohttp.ClientSession, url: str, token: str, expires_in_s: float, opened: Callable[[], None]) -> Ended:
        """Connect with a token and stay until it ends; tell how."""
        try:
            async with asyncio.timeout(OPEN_LIMIT_S):
                socket = await http.ws_connect(
                    url, protocols=(wire.SUBPROTOCOL,), headers={"Authorization": f"Bearer {token}"}, heartbeat=PING_S, compress=0,
                    max_msg_size=wire.MAX_FRAME_BYTES, timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_LIMIT_S),
                )  # fmt: skip
        except aiohttp.WSServerHandshakeError as refused:
            log.info("connection_refused", status=refused.status)
            return Ended(status=refused.status, retry_after_s=_seconds(refused.headers.get("Retry-After") if refused.headers else None))
        except (aiohttp.ClientError, TimeoutError, OSError) as broken:
            log.info("not_connected", error=type(broken).__name__)
            return Ended()
        began = time.monotonic()
        self._socket = socket
        try:
            if socket.protocol != wire.SUBPROTOCOL:
                log.warning("connection_speaks_something_else", protocol=socket.protocol)
                await socket.close(code=wire.CLOSE_BREACH)
                return Ended(code=wire.CLOSE_BREACH)
            self._session.connect(time.monotonic(), expires_in_s)
            opened()
            code = await self._exchange(socket)
            return Ended(code=code or ABNORMAL, lasted_s=time.monotonic() - began)
        finally:
            self._session.disconnect()
            self._socket = None
            await socket.close()

    async def _exchange(self, socket: aiohttp.ClientWebSocketResponse) -> int | None:
        """Send and receive until one of both ends; tell the close code, None when it broke."""
        sending, receiving = asyncio.create_task(self._send(socket)), asyncio.create_task(self._receive(socket))
        try:
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
            if not self._session.is_dead(time.monotonic()):
                await asyncio.wait((receiving,), timeout=LAST_WORDS_S)  # the code, when it was sending that failed
        finally:
            sending.cancel()
            receiving.cancel()
            ended = await asyncio.gather(sending, receiving, return_exceptions=True)
        for failed in ended:
            if isinstance(failed, Exception):
                raise failed
        return socket.close_code

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        unreadable = 0
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            try:
                frame = wire.from_platform(message.data)
            except wire.BadFrame as bad:
                unreadable += 1
                log.warning("frame_not_read", code=bad.error.code, detail=bad.error.detail)
                if unreadable <= MAX_UNREADABLE:
                    self._session.say(bad.error)
                continue
            for effect in self._session.take(frame, time.monotonic()):
                self._do(effect)
            self._wake.set()

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Send what the session wants to say; look once a second even when nothing wakes, for its timers."""
        try:
            while True:
                self._wake.clear()
                now = time.monotonic()
                while (text := self._session.next_text(now)) is not None:
                    await socket.send_str(text)
                    now = time.monotonic()
                if self._session.is_dead(now):
                    log.info("platform_is_silent")
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await self._wake.wait()
        except (aiohttp.ClientError, OSError):
            return  # receiving tells how it ended


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdecimal() else None

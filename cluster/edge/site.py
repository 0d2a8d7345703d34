"""The listener for agents. Whoever connects has little time and little room to say what it wants, and a connection answers one request."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web
from aiohttp.http import HttpProcessingError

from cluster.edge import protocol
from cluster.edge.addresses import client_of
from cluster.edge.sockets import AgentSockets
from cluster.edge.tokens import MAX_TOKEN

HEADERS_LIMIT_S = 5.0
MAX_PENDING = 1024  # connections that have sent no request yet
MAX_LINE_BYTES = 2048  # of the request's first line
MAX_FIELD_BYTES = MAX_TOKEN + 1024  # of a header
MAX_HEADERS = 48
STOP_LIMIT_S = 1.0


class Patience:
    """Makes connections into aiohttp's, and cuts those that do not ask in time.

    Of too many at once half of those go that came from the same place as most: so who connects often shuts nobody else out.
    """

    def __init__(self, accept: Callable[[], asyncio.Protocol]) -> None:
        self._accept = accept
        self._pending: dict[asyncio.Transport, tuple[str, asyncio.TimerHandle]] = {}  # with the place it came from, the oldest first

    def __len__(self) -> int:
        """Count the connections that have not asked yet."""
        return len(self._pending)

    def __call__(self) -> asyncio.Protocol:
        """Make the protocol of a new connection."""
        return _Arrival(self)

    def came(self, transport: asyncio.Transport) -> None:
        """Take a new connection."""
        handler = self._accept()
        transport.set_protocol(handler)
        handler.connection_made(transport)
        place = client_of((transport.get_extra_info("peername") or ("",))[0], (), ())
        self._pending[transport] = place, asyncio.get_running_loop().call_later(HEADERS_LIMIT_S, self._cut, transport)
        if len(self._pending) > MAX_PENDING:
            self._make_room()

    def asked(self, transport: asyncio.BaseTransport | None) -> None:
        """A connection sent a request."""
        if (waited := self._pending.pop(cast("asyncio.Transport", transport), None)) is not None:
            waited[1].cancel()

    def _cut(self, transport: asyncio.Transport) -> None:
        self.asked(transport)
        transport.abort()

    def _make_room(self) -> None:
        for transport in [one for one in self._pending if one.is_closing()]:  # it went by itself, or said nonsense
            self.asked(transport)
        if len(self._pending) <= MAX_PENDING:
            return
        by_place = defaultdict(list)
        for transport, (place, _) in self._pending.items():
            by_place[place].append(transport)
        most = max(by_place.values(), key=len)
        for transport in most[: (len(most) + 1) // 2]:
            self._cut(transport)


class _Arrival(asyncio.Protocol):
    """A connection in its first moment: what it came from is known, and nothing was read yet."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand it on."""
        self._patience.came(cast("asyncio.Transport", transport))


class _DefectsOfOurs(logging.Filter):
    """Leaves out what strangers say wrong: it would fill the log, with pieces of what they say, tokens among them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to log it."""
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_logger = logging.getLogger("gfe.edge.http")
_logger.addFilter(_DefectsOfOurs())


PATIENCE: web.AppKey[Patience] = web.AppKey("patience")


@web.middleware
async def _once(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """Answer, and close after it: who was refused would else keep the connection open for nothing."""
    request.app[PATIENCE].asked(request.transport)
    try:
        answer = await handler(request)
    except web.HTTPException as refused:
        answer = web.json_response({"code": "not_found", "detail": refused.reason}, status=refused.status)
    answer.force_close()
    return answer


async def health(_request: web.Request) -> web.Response:
    """`GET /healthz`."""
    return web.json_response({"status": "ok"})


class AgentSite:
    """The listener."""

    def __init__(self, sockets: AgentSockets, address: str, port: int) -> None:
        app = web.Application(middlewares=[_once])
        app.router.add_get(protocol.PATH, sockets.connect)
        app.router.add_get("/healthz", health)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, logger=_logger, shutdown_timeout=STOP_LIMIT_S, keepalive_timeout=HEADERS_LIMIT_S,
            max_line_size=MAX_LINE_BYTES, max_field_size=MAX_FIELD_BYTES, max_headers=MAX_HEADERS,
            lingering_time=0, auto_decompress=False,  # no request has a body that is read
        )  # fmt: skip
        app[PATIENCE] = self._patience = Patience(self._accept)
        self._address, self._port = address, port
        self._server: asyncio.Server | None = None

    def _accept(self) -> asyncio.Protocol:
        assert self._runner.server is not None
        return self._runner.server()

    async def start(self) -> str:
        """Listen; answers the address that agents connect to."""
        await self._runner.setup()
        try:
            self._server = await asyncio.get_running_loop().create_server(self._patience, self._address, self._port, backlog=1024)
        except OSError:
            await self._runner.cleanup()
            raise
        port = self._server.sockets[0].getsockname()[1]
        return f"ws://{self._address}:{port}{protocol.PATH}"

    def stop_listening(self) -> None:
        """Let nobody else in."""
        if self._server is not None:
            self._server.close()

    async def aclose(self) -> None:
        """Stop listening, and end what is open."""
        self.stop_listening()
        await self._runner.cleanup()

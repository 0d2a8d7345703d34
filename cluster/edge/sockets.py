"""The agents' side of the edge gateway: who may connect, and frames between a socket and its session.

Whoever may not connect is told so before the upgrade, by an ordinary HTTP answer. One task per socket reads, one writes; a socket that does not
take what it is sent is given up, and hurts nobody else.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import WSMsgType, web

from cluster.edge import protocol
from cluster.edge.buckets import Bucket
from cluster.edge.facts import AgentClaims, InvalidAgentToken, NodeFacts
from cluster.edge.gateway import EdgeGateway
from cluster.edge.sessions import Session
from cluster.edge.tokens import AgentVerifier, KeysUnknown

log = structlog.get_logger()
PING_S = 20.0
SEND_LIMIT_S = 20.0
CLOSE_LIMIT_S = 2.0
HEADERS_LIMIT_S = 5.0
KEEP_ALIVE_S = 5.0  # of a connection that was refused
MAX_PENDING = 1024  # connections that have sent no request yet
NODE_CONNECTS = (1.0, 5.0)  # per second, and at once
STRANGER_CONNECTS = (1.0, 60.0)  # without a good token, per address
MAX_BUCKETS = 10_000
STOP_LIMIT_S = 1.0
CLOSE_DEFECT = 1011  # RFC 6455
Find = Callable[[str], Awaitable[NodeFacts | None]]


class Buckets:
    """A bucket per name; the ones that are full again are forgotten."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._kept: OrderedDict[str, Bucket] = OrderedDict()

    def of(self, name: str, now: float) -> Bucket:
        """Find a name's bucket."""
        bucket = self._kept.pop(name, None) or Bucket(self._rate, self._burst)
        self._kept[name] = bucket
        while len(self._kept) > MAX_BUCKETS or (len(self._kept) > 1 and next(iter(self._kept.values())).is_full(now)):
            self._kept.popitem(last=False)
        return bucket


class AgentSockets:
    """Serves `/ws/computing/`. `find` tells what the ledger says of a node, looking there again if it is new."""

    def __init__(self, edge: EdgeGateway, verifier: AgentVerifier, find: Find, *, max_agents: int) -> None:
        self._edge, self._verifier, self._find = edge, verifier, find
        self._max_agents = max_agents
        self._nodes = Buckets(*NODE_CONNECTS)
        self._strangers = Buckets(*STRANGER_CONNECTS)

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """`GET /ws/computing/`."""
        let_in = await self._judged(request)
        if isinstance(let_in, web.Response):
            return let_in
        socket = web.WebSocketResponse(
            protocols=(protocol.SUBPROTOCOL,),
            heartbeat=PING_S,
            compress=False,
            max_msg_size=protocol.MAX_FRAME_BYTES + 1,  # aiohttp takes what is smaller
            timeout=CLOSE_LIMIT_S,
        )
        try:
            await socket.prepare(request)
        except ConnectionError:  # it did not wait
            return web.Response(status=400)
        self._edge.metrics.connections.inc()
        session = self._edge.open(*let_in)
        try:
            await _carry(request, socket, session)
        finally:
            self._edge.closed(session)
            self._edge.metrics.closes.labels(str(socket.close_code or 1006)).inc()
        return socket

    # --- who may connect ---------------------------------------------------------------------------------------------------------------

    async def _judged(self, request: web.Request) -> tuple[AgentClaims, NodeFacts] | web.Response:
        if "Origin" in request.headers:
            return self._refusal(403, "origin_not_allowed", "pages in a browser may not connect")
        offered = [one.strip() for one in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        if protocol.SUBPROTOCOL not in offered or request.headers.get("Upgrade", "").lower() != "websocket":
            headers = {"Upgrade": "websocket", "Sec-WebSocket-Protocol": protocol.SUBPROTOCOL}
            return self._refusal(426, "subprotocol_needed", f"connect with the subprotocol {protocol.SUBPROTOCOL}", headers)
        if self._edge.connections >= self._max_agents:
            return self._refusal(503, "full", "as many agents are connected as may be", {"Retry-After": "30"})
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            await self._verifier.prepare(token)
            claims = self._verifier.verify(token)
        except KeysUnknown:
            return self._refusal(503, "not_ready", "the platform is starting", {"Retry-After": "2"})
        except InvalidAgentToken:
            return self._stranger(request)
        now = time.monotonic()
        bucket = self._nodes.of(claims.node, now)
        if not bucket.take(now):
            return self._too_often(bucket, now)
        facts = await self._find(claims.node)
        if facts is None:
            return self._refusal(503, "not_ready", "the node is not known here yet", {"Retry-After": "2"})
        if not facts.may_connect or facts.key != claims.key:
            return self._refusal(401, "agent_revoked", "this agent may not connect any more", {"WWW-Authenticate": "Bearer"})
        return claims, facts

    def _stranger(self, request: web.Request) -> web.Response:
        now = time.monotonic()
        bucket = self._strangers.of(request.remote or "", now)
        if not bucket.take(now):
            return self._too_often(bucket, now)
        return self._refusal(401, "token_not_valid", "the token is not valid; ask the ledger for a new one", {"WWW-Authenticate": "Bearer"})

    def _too_often(self, bucket: Bucket, now: float) -> web.Response:
        return self._refusal(429, "too_many_connects", "connect less often", {"Retry-After": str(max(1, round(bucket.wait_s(now))))})

    def _refusal(self, status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> web.Response:
        self._edge.metrics.refusals.labels(code).inc()
        return web.json_response({"code": code, "detail": detail}, status=status, headers=headers)


# --- frames ---------------------------------------------------------------------------------------------------------------------------


async def _carry(request: web.Request, socket: web.WebSocketResponse, session: Session) -> None:
    """Carry frames both ways until one side ends the connection; what was said before a close is sent before it."""
    reading, writing = asyncio.create_task(_read(socket, session)), asyncio.create_task(_write(socket, session))
    try:
        await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
        if reading.done() and (broken := reading.exception()) is not None:  # a defect of ours: it must not end in silence
            log.error("session_failed", node=session.node.id, exc_info=broken)
            session.close(CLOSE_DEFECT, "internal error")
        session.close(1000, "")  # of no effect where one of us closed it
        await writing
        reading.cancel()  # who waits for a frame would hinder the close
        await asyncio.gather(reading, return_exceptions=True)
        assert session.closing is not None
        code, reason = session.closing
        async with asyncio.timeout(SEND_LIMIT_S):
            await socket.close(code=code, message=reason.encode())
    except (ConnectionError, TimeoutError, RuntimeError):  # gone, or it does not take what it is sent
        if request.transport is not None:
            request.transport.abort()
    finally:
        reading.cancel()
        writing.cancel()
        await asyncio.gather(reading, writing, return_exceptions=True)


async def _read(socket: web.WebSocketResponse, session: Session) -> None:
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            session.take(message.data, time.monotonic())
        elif message.type is WSMsgType.BINARY:
            session.close(protocol.CLOSE_BINARY, "frames are text")
        if session.closing:
            return


async def _write(socket: web.WebSocketResponse, session: Session) -> None:
    """Send what the session says, until it is closed.

    Raises:
        TimeoutError: The other side does not take it.
    """
    ready = asyncio.Event()
    session.wake = ready.set
    while True:
        while (text := session.next_out()) is not None:
            async with asyncio.timeout(SEND_LIMIT_S):
                await socket.send_str(text)
        if session.closing:
            return
        await ready.wait()
        ready.clear()


# --- serving --------------------------------------------------------------------------------------------------------------------------


class Patience:
    """Cuts connections that do not say in time what they want; of very many at once the oldest go first."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner
        self._pending: OrderedDict[asyncio.BaseProtocol, asyncio.TimerHandle] = OrderedDict()

    def __call__(self) -> asyncio.BaseProtocol:
        """Make the protocol of a new connection."""
        server = self._runner.server
        assert server is not None
        handler = server()
        self._pending[handler] = asyncio.get_running_loop().call_later(HEADERS_LIMIT_S, self._cut, handler)
        if len(self._pending) > MAX_PENDING:
            self._cut(next(iter(self._pending)))
        return handler

    def asked(self, handler: asyncio.BaseProtocol) -> None:
        """A connection sent a request."""
        if (timer := self._pending.pop(handler, None)) is not None:
            timer.cancel()

    def _cut(self, handler: asyncio.BaseProtocol) -> None:
        self.asked(handler)
        transport = getattr(handler, "transport", None)
        if transport is not None:
            transport.abort()


PATIENCE: web.AppKey[Patience] = web.AppKey("patience")


@web.middleware
async def _in_time(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    request.app[PATIENCE].asked(request.protocol)
    try:
        return await handler(request)
    except web.HTTPException as refused:
        return web.json_response({"code": "not_found", "detail": refused.reason}, status=refused.status)


async def health(_request: web.Request) -> web.Response:
    """`GET /healthz`."""
    return web.json_response({"status": "ok"})


class AgentSite:
    """The listener for agents."""

    def __init__(self, sockets: AgentSockets, address: str, port: int) -> None:
        app = web.Application(middlewares=[_in_time])
        app.router.add_get(protocol.PATH, sockets.connect)
        app.router.add_get("/healthz", health)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, keepalive_timeout=KEEP_ALIVE_S, shutdown_timeout=STOP_LIMIT_S
        )
        app[PATIENCE] = self._patience = Patience(self._runner)
        self._address, self._port = address, port
        self._server: asyncio.Server | None = None

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

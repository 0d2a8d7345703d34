"""The agents' side of the edge gateway: who may connect, and frames between a socket and its session.

Whoever may not connect is told so before the upgrade, by an ordinary HTTP answer. What is looked at goes from cheap to dear: headers, the
token's form and signature, the node's bucket, the ledger's word of the node. Only connects without a good token share buckets, one per address:
so no flood of strangers is a reason to refuse an agent with a good one, whose bucket is its node's own.

One task per socket reads, one writes; a socket that does not take what it is sent is given up, and hurts nobody else.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog
from aiohttp import WSMsgType, web

from cluster.edge import protocol
from cluster.edge.addresses import Network, client_of
from cluster.edge.buckets import Bucket, Buckets
from cluster.edge.facts import AgentClaims, InvalidAgentToken, NodeFacts
from cluster.edge.gateway import EdgeGateway
from cluster.edge.sessions import Session
from cluster.edge.tokens import AgentVerifier, KeysUnknown

log = structlog.get_logger()
PING_S = 20.0
SEND_LIMIT_S = 20.0
CLOSE_LIMIT_S = 2.0
NODE_CONNECTS = (1.0, 5.0)  # per second, and at once
STRANGER_CONNECTS = (1.0, 60.0)  # without a good token, per address
ABNORMAL = 1006  # RFC 6455: it broke
LEFT = (1000, "")  # the agent ended the connection, or it broke
Find = Callable[[str], Awaitable[NodeFacts | None]]


class AgentSockets:
    """Serves `/ws/computing/`.

    `find` tells what the ledger says of a node, looking there again if it is new. `trusted` are the networks of proxies whose
    `X-Forwarded-For` is believed.
    """

    def __init__(self, edge: EdgeGateway, verifier: AgentVerifier, find: Find, *, max_agents: int, trusted: Sequence[Network] = ()) -> None:
        self._edge, self._verifier, self._find, self._trusted = edge, verifier, find, trusted
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
            autoping=False,  # pings are counted, and answered below
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
            code = _close_code(socket, session)
            self._edge.metrics.closes.labels(str(code) if code in protocol.CLOSES else "other").inc()  # agents choose among 60,000
        return socket

    # --- who may connect ---------------------------------------------------------------------------------------------------------------

    async def _judged(self, request: web.Request) -> tuple[AgentClaims, NodeFacts] | web.Response:
        if "Origin" in request.headers:
            return self._refusal(403, "origin_not_allowed", "pages in a browser may not connect")
        offered = [one.strip() for one in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        if protocol.SUBPROTOCOL not in offered or request.headers.get("Upgrade", "").lower() != "websocket":
            headers = {"Upgrade": "websocket", "Sec-WebSocket-Protocol": protocol.SUBPROTOCOL}
            return self._refusal(426, "subprotocol_needed", f"connect with the subprotocol {protocol.SUBPROTOCOL}", headers)
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
        if self._edge.connections >= self._max_agents and not self._edge.is_connected(claims.node):
            return self._refusal(503, "full", "as many agents are connected as may be", {"Retry-After": "30"})
        facts = await self._find(claims.node)
        if facts is None:
            return self._refusal(503, "not_ready", "the node is not known here yet", {"Retry-After": "2"})
        if not facts.may_connect or facts.key != claims.key:
            return self._refusal(401, "agent_revoked", "this agent may not connect any more", {"WWW-Authenticate": "Bearer"})
        return claims, facts

    def _stranger(self, request: web.Request) -> web.Response:
        now = time.monotonic()
        address = client_of(request.remote, request.headers.getall("X-Forwarded-For", ()), self._trusted)
        bucket = self._strangers.of(address, now)
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
            session.close(protocol.CLOSE_DEFECT, "internal error")
        session.close(*LEFT)  # of no effect where we closed it
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


def _close_code(socket: web.WebSocketResponse, session: Session) -> int:
    """Tell why a connection ended: our own code, which an agent need not repeat in its answer, or the agent's."""
    if session.closing in (None, LEFT):
        return socket.close_code or ABNORMAL
    return session.closing[0]


async def _read(socket: web.WebSocketResponse, session: Session) -> None:
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            session.take(message.data, time.monotonic())
        elif message.type in {WSMsgType.PING, WSMsgType.PONG}:
            session.ping(time.monotonic())
            if message.type is WSMsgType.PING:
                with suppress(ConnectionError):  # it is gone
                    await socket.pong(message.data)
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

"""A platform for agents, scripted: the ledger's routes for them and an edge gateway, written from the protocol alone.

It takes chunks in order, acknowledges as it is told to, cuts sockets, closes with any code, restarts without memory, and keeps count of
what was lost, doubled or stale.
"""

import asyncio
import contextlib
import itertools
import secrets
from dataclasses import dataclass, field

from aiohttp import web

from cluster.edge import protocol as wire
from cluster.jobs import JobKind
from cluster.receipts import Receipt, is_signed_by

DEADLINE = wire.OfferDeadlines(first_token=30, idle=30, total=300)


@dataclass
class Taken:
    """What arrived of one attempt."""

    chunks: list[wire.Chunk] = field(default_factory=list)
    doubled: int = 0
    gaps: int = 0
    end: object = None
    answer: object = None  # accept or reject
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    grew: asyncio.Event = field(default_factory=asyncio.Event)
    ack_from: int = 0

    @property
    def text(self):
        return "".join(chunk.delta.content or "" for chunk in self.chunks)


class ScriptedPlatform:
    def __init__(self):
        self.node, self.public_key = "node_edge1", None
        self.hellos, self.inventories, self.heartbeats, self.frames, self.connects, self.auths = [], [], [], [], [], []
        self.taken: dict[tuple[str, int], Taken] = {}
        self.delivered: dict[tuple[str, int], int] = {}
        self.sockets: list[web.WebSocketResponse] = []
        self.epochs = itertools.count(1)
        self.jobs = itertools.count(1)
        self.arrived = asyncio.Event()
        self.acks = True  # whether chunks are acknowledged
        self.ends_acked = True
        self.refuses: tuple[int, dict] | None = None  # before the upgrade
        self.revoked = False
        self.why_cut = {"state": "revoked", "detail": "revoked"}
        self.closes_with: int | None = None  # at once after hello
        self.token_life_s = 600
        self.status: dict | None = None
        self.version_offered = True
        self.tokens = 0

    # --- the ledger's routes ----------------------------------------------------------------------------------------------------------

    async def enroll(self, request):
        body = await request.json()
        self.enrolled = body
        self.public_key = body["public_key"]
        said = {"node_id": self.node, "ws_url": self.ws_url, "min_agent_version": "0.1.0"}
        return web.json_response(said, status=201)

    async def nonce(self, request):
        return web.json_response({"nonce": secrets.token_urlsafe(8), "expires_in_s": 60})

    async def token(self, request):
        self.tokens += 1
        if self.revoked:
            return web.json_response({"code": "agent_revoked", **self.why_cut}, status=401)
        return web.json_response({"access_token": f"token-{self.tokens}", "expires_in_s": self.token_life_s})

    async def told_status(self, request):
        return web.json_response(self.status) if self.status else web.json_response({"code": "not_found"}, status=404)

    # --- the gateway ------------------------------------------------------------------------------------------------------------------

    async def computing(self, request):
        self.connects.append(asyncio.get_running_loop().time())
        if self.refuses:
            status, more = self.refuses
            return web.json_response({"code": "no", "detail": "no"}, status=status, headers=more)
        socket = web.WebSocketResponse(
            protocols=(wire.SUBPROTOCOL,) if self.version_offered else (), max_msg_size=wire.MAX_FRAME_BYTES, compress=False
        )
        await socket.prepare(request)
        self.transport = request.transport
        self.sockets.append(socket)
        with contextlib.suppress(ConnectionError):
            async for message in socket:
                await self.take(socket, wire.from_agent(message.data))
        return socket

    async def take(self, socket, frame):
        self.frames.append(frame)
        match frame:
            case wire.Hello():
                await self.hello(socket, frame)
            case wire.Inventory():
                self.inventories.append(frame)
                self.arrived.set()
            case wire.AgentHeartbeat():
                self.heartbeats.append(frame)
                await self.send(wire.PlatformHeartbeat(n=frame.n), socket)
            case wire.Auth():
                self.auths.append(frame.token)
                await self.send(wire.AuthOk(expires_in_s=self.token_life_s), socket)
            case wire.Accept() | wire.Reject():
                taken = self.taken[frame.job, frame.lease]
                taken.answer = frame
                taken.answered.set()
            case wire.Chunk():
                await self.chunk(socket, frame)
            case wire.End() | wire.Fail() | wire.Canceled():
                if (taken := self.taken.get((frame.job, frame.lease))) is None:
                    return
                taken.end = frame
                taken.ended.set()
                if self.ends_acked:
                    await self.send(wire.Ack(job=frame.job, lease=frame.lease, seq=len(taken.chunks), end=True), socket)

    async def hello(self, socket, frame):
        self.hellos.append(frame)
        if self.closes_with:
            await socket.close(code=self.closes_with)
            return
        resume, drop = [], []
        for held in frame.resume:
            taken = self.taken.get((held.job, held.lease))
            if taken is None:
                drop.append(wire.Dropped(job=held.job, lease=held.lease, reason="unknown"))
            else:
                resume.append(wire.ResumeFrom(job=held.job, lease=held.lease, next_seq=len(taken.chunks)))
        await self.send(wire.Welcome(version=1, node=self.node, epoch=next(self.epochs), resume=resume, drop=drop), socket)

    async def chunk(self, socket, chunk):
        taken = self.taken.get((chunk.job, chunk.lease))
        if taken is None:
            await self.send(wire.Cancel(job=chunk.job, lease=chunk.lease, why="superseded"), socket)
            return
        if chunk.seq > len(taken.chunks):
            taken.gaps += 1
            return
        if chunk.seq < len(taken.chunks):
            taken.doubled += 1
        else:
            taken.chunks.append(chunk)
            taken.grew.set()
        if self.acks and len(taken.chunks) - taken.ack_from >= wire.ACK_EVERY_CHUNKS:
            taken.ack_from = len(taken.chunks)
            await self.send(wire.Ack(job=chunk.job, lease=chunk.lease, seq=len(taken.chunks)), socket)

    async def send(self, frame, socket=None):
        with contextlib.suppress(ConnectionError):
            await (socket or self.sockets[-1]).send_str(frame.text())

    async def offer(self, model="fake:words=3", text="hello there", *, lease=1, job=None, kind=JobKind.CHAT, digest="", request=None):
        job = job or f"job_{next(self.jobs)}"
        taken = self.taken[job, lease] = Taken()
        body = request or {"messages": [{"role": "user", "content": text}]}
        await self.send(
            wire.Offer(job=job, lease=lease, kind=kind, model=model, model_digest=digest, request=body, max_tokens=1000, deadline=DEADLINE)
        )
        return job, taken

    def forget(self):
        """A gateway that lost all it had of its attempts, but not which there are."""
        for key in self.taken:
            self.taken[key].chunks.clear()
            self.taken[key].ack_from = 0

    def cut(self):
        self.transport.abort()

    def receipt_is_good(self, job, taken, digest):
        end = taken.end
        receipt = Receipt(
            job=job, lease=end.lease, node=self.node, model_digest=digest, text_sha256=end.receipt.text_sha256,
            prompt_tokens=end.usage.prompt_eval_count, completion_tokens=end.usage.eval_count, reason=end.reason,
        )  # fmt: skip
        import base64

        key = base64.urlsafe_b64decode(self.public_key + "=" * (-len(self.public_key) % 4))
        return is_signed_by(receipt, end.receipt.signature, key)


@contextlib.asynccontextmanager
async def scripted_platform():
    platform = ScriptedPlatform()
    app = web.Application()
    app.router.add_post("/api/core/agent/enroll/", platform.enroll)
    app.router.add_post("/api/core/agent/nonce/", platform.nonce)
    app.router.add_post("/api/core/agent/token/", platform.token)
    app.router.add_get("/api/core/agent/status/", platform.told_status)
    app.router.add_get(wire.PATH, platform.computing)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    platform.url, platform.ws_url = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}{wire.PATH}"
    try:
        yield platform
    finally:
        for socket in platform.sockets:
            if not socket.closed:
                await socket.close()
        await runner.cleanup()

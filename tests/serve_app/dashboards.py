"""A dashboard as a program: a real WebSocket client that remembers what it heard."""

import asyncio
import contextlib
import json

from websockets.asyncio.client import connect


class Dashboard:
    """One open socket. `heard` is every message in order; `frames` the texts as they came."""

    def __init__(self, socket):
        self.socket = socket
        self.heard = []
        self.frames = []

    async def say(self, type_, **fields):
        await self.socket.send(json.dumps({"type": type_, **fields}))

    async def hear(self, limit_s=60):
        """Read one frame; answer its messages."""
        async with asyncio.timeout(limit_s):
            frame = await self.socket.recv()
        said = json.loads(frame)
        messages = said if isinstance(said, list) else [said]
        self.frames.append(frame)
        self.heard += messages
        return messages

    async def until(self, holds, limit_s=60):
        """Read until a message holds; answer it. What was heard before counts."""
        async with asyncio.timeout(limit_s):
            at = 0
            while True:
                for one in self.heard[at:]:
                    if holds(one):
                        return one
                at = len(self.heard)
                await self.hear(limit_s)

    async def until_closed(self, limit_s=60):
        """Read to the end; answer the code and the reason."""
        async with asyncio.timeout(limit_s):
            with contextlib.suppress(Exception):
                while True:
                    await self.hear(limit_s)
        await self.socket.wait_closed()
        return self.socket.close_code, self.socket.close_reason

    def of(self, type_):
        return [one for one in self.heard if one["type"] == type_]

    def told_of(self, name):
        """What was told of a job, change by change."""
        return [one for one in self.of("job_update") if one["job"]["id"] == name]

    @property
    def seq(self):
        return max(one["seq"] for one in self.heard if "seq" in one)


def socket_url(platform):
    return platform.url.replace("http://", "ws://") + "/ws/dashboard/"


@contextlib.asynccontextmanager
async def opened(platform, **options):
    """Open a socket that has said nothing yet."""
    async with connect(socket_url(platform), compression=None, proxy=None, **options) as socket:
        yield Dashboard(socket)


@contextlib.asynccontextmanager
async def dashboard(platform, token=None, since=None, **options):
    """Open one and show who calls; it has heard its first page, or what it missed."""
    async with opened(platform, **options) as board:
        await board.say("auth", token=token or platform.key, **({} if since is None else {"since": since}))
        await board.until(lambda one: one["type"] in {"jobs_update", "beat"})
        yield board


def settled(board, name):
    """The last that is ever told of a job: it comes with a hint at the balance."""
    return board.until(lambda one: one["type"] == "balance_update" and board.told_of(name))

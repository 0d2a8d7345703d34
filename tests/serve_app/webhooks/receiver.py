"""A consumer's program that is told of its jobs' ends: a real server on loopback that verifies what it gets, and can break in every way."""

import asyncio
import contextlib
import json
import ssl

from aiohttp import web
from standardwebhooks.webhooks import Webhook

from tests.waiting import until


class Receiver:
    """`answers` are the statuses that it gives, in their order; then 200. `is_open` cleared: it takes requests and does not answer."""

    def __init__(self):
        self.got, self.answers, self.port = [], [], 0
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.location = None
        self.most_at_once = self._now = 0
        self._runner = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self):
        return [headers["webhook-id"] for headers, _ in self.got]

    async def start(self, tls: ssl.SSLContext | None = None):
        app = web.Application()
        app.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=tls, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        return self

    async def stop(self):
        runner, self._runner = self._runner, None
        if runner:
            await runner.cleanup()

    async def _take(self, request):
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            body = await request.text()
            await self.is_open.wait()
        finally:
            self._now -= 1
        status = self.answers.pop(0) if self.answers else 200
        self.got.append((dict(request.headers), body))
        return web.Response(status=status, text="x" * 100_000, headers={"Location": self.location} if self.location else {})

    async def heard(self, count, limit_s=60):
        await until(lambda: len(self.got) >= count, limit_s)
        return self.got[:count]


def said_in(got):
    """Read an event without looking at its signature."""
    return json.loads(got[1])


def verified(secret, got):
    """Read an event as a receiver should: refuse it unless it is signed."""
    headers, body = got
    names = {name.lower(): value for name, value in headers.items()}
    return Webhook(secret).verify(body, names)


@contextlib.asynccontextmanager
async def receiving(**options):
    receiver = await Receiver().start(**options)
    try:
        yield receiver
    finally:
        receiver.is_open.set()
        await receiver.stop()

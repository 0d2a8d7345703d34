"""An embedded front that serves in the test's own process, without any model in memory, and a client of it."""

import hashlib
import json
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from cluster.runtime.front.app import create_front_app
from cluster.runtime.front.library import Library
from cluster.runtime.front.memory import Memory
from cluster.runtime.models import Mirrors
from tests.tiny_gguf import SMOLLM2_LIKE, gguf

MODEL = gguf()
TALL = gguf({**SMOLLM2_LIKE, "llama.block_count": 31})


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Front:
    """A front that serves in this process, and a client of it."""

    def __init__(self, shelf, store, url, session):
        self.library = shelf
        self.unreadable = shelf.unreadable
        self.store, self.url, self.session = store, url, session

    async def call(self, method, path, body=None, **more):
        """Answers status and what was said: an object, or the lines of a stream."""
        async with self.session.request(method, self.url + path, json=body, **more) as answer:
            kind, text = answer.content_type, await answer.text()
            if kind == "application/x-ndjson":
                return answer.status, [json.loads(line) for line in text.splitlines()]
            return answer.status, json.loads(text) if kind == "application/json" and text else text

    async def send(self, content, digest=None):
        return await self.call("POST", f"/api/blobs/{digest or digest_of(content)}", data=content)

    async def create(self, name, content=MODEL, **more):
        await self.send(content)
        body = {"model": name, "stream": False} | (more if "from" in more else {"files": {"m.gguf": digest_of(content)}} | more)
        return await self.call("POST", "/api/create", body)

    async def names(self):
        return {row["name"] for row in (await self.call("GET", "/api/tags"))[1]["models"]}

    async def show(self, name):
        return (await self.call("POST", "/api/show", {"model": name}))[1]

    @property
    def files(self):
        """What is in the store: contents of blobs, number of manifests."""
        return {path.read_bytes() for path in (self.store / "blobs").iterdir()}, len(list((self.store / "manifests").iterdir()))


@asynccontextmanager
async def front_on(store, mirrors=None, context_tokens=64):
    shelf = Library(store=store, cache=store / "cache", mirrors=mirrors or Mirrors())
    runner = web.AppRunner(
        create_front_app(shelf, Memory(slots=1, context_tokens=context_tokens)), handler_cancellation=True, shutdown_timeout=0.2
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        yield Front(shelf, store, f"http://127.0.0.1:{runner.addresses[0][1]}", session)
    await runner.cleanup()

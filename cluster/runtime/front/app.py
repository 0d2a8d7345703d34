"""The front's application: its routes, and what lives as long as it does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from aiohttp import web

from cluster.runtime.child import ChildFailed
from cluster.runtime.dialect import BadRequest
from cluster.runtime.front import answering, dialects, embedding, listing, managing, scoring
from cluster.runtime.front.http import LIBRARY, MAX_BODY_BYTES, MEMORY, in_ollamas_words
from cluster.runtime.front.library import Library
from cluster.runtime.front.memory import Memory
from cluster.runtime.front.telling import say
from cluster.runtime.models import KNOWN, SMOLLM2, FetchFailed, KnownModel

FETCH_AGAIN_S, FETCH_AGAIN_AT_LAST_S = 5.0, 300.0

ROUTES = [
    web.get("/", listing.root),
    web.get("/api/version", listing.version),
    web.get("/api/tags", listing.tags),
    web.get("/api/ps", listing.ps),
    web.post("/api/show", listing.show),
    web.post("/gfe/tokenize", listing.tokenize),
    web.post("/gfe/score", scoring.score),
    web.post("/api/chat", answering.chat),
    web.post("/api/generate", answering.generate),
    web.post("/api/embed", embedding.embed),
    web.post("/api/embeddings", embedding.embeddings),
    web.head("/api/blobs/{digest}", managing.has_blob),
    web.post("/api/blobs/{digest}", managing.take_blob),
    web.post("/api/create", managing.create),
    web.post("/api/copy", managing.copy),
    web.post("/api/pull", managing.pull),
    web.delete("/api/delete", managing.delete),
    *dialects.ROUTES,
]


def create_front_app(library: Library, memory: Memory) -> web.Application:
    """Build the application."""
    app = web.Application(middlewares=[in_ollamas_words], client_max_size=MAX_BODY_BYTES)
    app[LIBRARY], app[MEMORY] = library, memory
    app.add_routes(ROUTES)

    async def life(app: web.Application) -> AsyncIterator[None]:
        await asyncio.to_thread(library.open)
        await memory.start()
        watching = asyncio.create_task(memory.watch())
        yield
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await memory.close()
        library.close()

    app.cleanup_ctx.append(life)
    return app


async def fetch_models(library: Library, memory: Memory) -> None:
    """Fetch what we know and do not have, say so, and load the first model so that the first request is fast."""
    for known in KNOWN.values():
        await _have(known, library)
    if SMOLLM2.name in library.models:
        with suppress(ChildFailed, BadRequest):
            await memory.load(library.models[SMOLLM2.name], {}, None)


async def _have(known: KnownModel, library: Library) -> None:
    """Fetch a model, again and again: a machine may come up before its network does."""
    wait_s = FETCH_AGAIN_S
    while known.name not in library.models:
        say(status="fetching", model=known.name, bytes=known.size_bytes)
        try:
            await library.add(known)
        except FetchFailed as failed:
            say(status="failed", model=known.name, error=str(failed), again_in_s=wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, FETCH_AGAIN_AT_LAST_S)
    say(status="ready", model=known.name)

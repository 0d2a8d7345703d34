"""How the front reads requests and writes answers: bodies whatever their type says, lines of JSON, errors in Ollama's words."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from aiohttp import web

from cluster.runtime import dialect
from cluster.runtime.child import ChildFailed
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front.library import Library
from cluster.runtime.front.memory import Memory

MAX_BODY_BYTES = 16 * 1024 * 1024
LIBRARY: web.AppKey[Library] = web.AppKey("library")
MEMORY: web.AppKey[Memory] = web.AppKey("memory")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def body_of(request: web.Request) -> Json:
    """Read the body as JSON, whatever its Content-Type says."""
    return dialect.checked_body(await request.read())


def now_text() -> str:
    """The time as Ollama writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


async def open_lines(request: web.Request) -> web.StreamResponse:
    """Begin an NDJSON answer."""
    stream = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await stream.prepare(request)
    return stream


async def write_line(stream: web.StreamResponse, line: Json) -> None:
    """Write one line of an NDJSON answer."""
    await stream.write(json.dumps(line).encode() + b"\n")


@web.middleware
async def in_ollamas_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors into Ollama's answers; refuse a foreign Host."""
    host = request.host.rsplit(":", 1)[0]
    if not (host in {"localhost", "[::1]"} or host.replace(".", "").isdigit() or host.endswith((".localhost", ".local", ".internal"))):
        return web.Response(status=403)
    try:
        return await handler(request)
    except BadRequest as wrong:
        return web.json_response({"error": wrong.text}, status=wrong.status)
    except ChildFailed as failed:
        return web.json_response({"error": str(failed)}, status=500)
    except web.HTTPNotFound:
        return web.Response(text="404 page not found", status=404)
    except web.HTTPMethodNotAllowed:
        return web.Response(text="405 method not allowed", status=405)

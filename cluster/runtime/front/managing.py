"""Routes that change what is there: blobs, create, copy, delete, pull."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from cluster.runtime import dialect
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front import creating
from cluster.runtime.front.blobs import CHUNK_BYTES, sha256_of
from cluster.runtime.front.http import LIBRARY, MEMORY, body_of, open_lines, write_line
from cluster.runtime.front.library import Library
from cluster.runtime.front.model import Manifest, read_checked
from cluster.runtime.gguf import NotGguf
from cluster.runtime.models import KNOWN, FetchFailed

NO_SUCH_MANIFEST = "pull model manifest: file does not exist"


async def has_blob(request: web.Request) -> web.Response:
    """`HEAD /api/blobs/{digest}`."""
    is_here = request.app[LIBRARY].blobs.has(sha256_of(request.match_info["digest"]))
    return web.Response(status=200 if is_here else 404)


async def take_blob(request: web.Request) -> web.Response:
    """`POST /api/blobs/{digest}`: 201 for a new one, 200 for one that is here."""
    blobs, sha256 = request.app[LIBRARY].blobs, sha256_of(request.match_info["digest"])
    if blobs.has(sha256):
        while await request.content.read(CHUNK_BYTES):  # a client that is cut off while it sends would take it for a failure
            pass
        return web.Response(status=200)
    if (request.content_length or 0) > blobs.max_bytes:
        raise BadRequest(f"a blob may have at most {blobs.max_bytes} bytes", 413)
    await blobs.receive(sha256, request.content.read)
    return web.Response(status=201)


async def create(request: web.Request) -> web.StreamResponse:
    """`POST /api/create`: a model from a blob, or from another model; no network is used."""
    library, body = request.app[LIBRARY], await body_of(request)
    manifest = creating.manifest_of(body, library)
    await _require_gguf(library, manifest)
    if body.get("stream") is False:
        await library.put(manifest)
        return web.json_response({"status": "success"})
    return await _answer_lines(request, _created(library, manifest, is_parsed=bool(body.get("files"))))


async def _require_gguf(library: Library, manifest: Manifest) -> None:
    """Look into the file before the answer begins: what is wrong with it has a status of its own then."""
    try:
        await asyncio.to_thread(read_checked, library.blobs.path(manifest.weights))
    except NotGguf as wrong:
        raise BadRequest(f"not a GGUF file: {wrong}") from wrong
    except FileNotFoundError:
        raise BadRequest(f'blob "sha256:{manifest.weights}" not found') from None


async def _created(library: Library, manifest: Manifest, *, is_parsed: bool) -> AsyncIterator[Json]:
    if is_parsed:
        yield {"status": "parsing GGUF"}
    yield {"status": f"using existing layer sha256:{manifest.weights}"}
    yield {"status": "writing manifest"}
    await library.put(manifest)
    yield {"status": "success"}


async def copy(request: web.Request) -> web.Response:
    """`POST /api/copy`: the same model under another name."""
    library, body = request.app[LIBRARY], await body_of(request)
    source = str(body.get("source") or "")
    found = library.models.get(dialect.full_name(source))
    destination = creating.named(body.get("destination"), "destination")
    if found is None:
        raise BadRequest(f'model "{source}" not found', 404)
    await library.put(found.manifest.named(destination))
    return web.Response()


async def delete(request: web.Request) -> web.Response:
    """`DELETE /api/delete`: forget a model; what runs on it ends first. A file that was fetched stays in the user's cache."""
    library, body = request.app[LIBRARY], await body_of(request)
    model = library.find(body.get("model") or body.get("name"))
    await library.remove(model)
    await request.app[MEMORY].unload_when_idle(model.name)
    return web.Response()


async def pull(request: web.Request) -> web.StreamResponse:
    """`POST /api/pull`: fetch one of the models that we know; success only if the last line says so."""
    library, body = request.app[LIBRARY], await body_of(request)
    name = creating.named(body.get("model") or body.get("name"))
    lines = _pulled(library, name)
    if body.get("stream") is not False:
        return await _answer_lines(request, lines)
    try:
        async for _ in lines:
            pass
    except FetchFailed as failed:
        raise BadRequest(str(failed), 500) from failed
    return web.json_response({"status": "success"})


async def _pulled(library: Library, name: str) -> AsyncIterator[Json]:
    yield {"status": "pulling manifest"}
    if name not in KNOWN:
        raise FetchFailed(NO_SUCH_MANIFEST)
    async for line in library.pull(KNOWN[name]):
        yield line


async def _answer_lines(request: web.Request, lines: AsyncIterator[Json]) -> web.StreamResponse:
    """Answer progress; what fails on the way is the last line."""
    stream = await open_lines(request)
    try:
        async for line in lines:
            await write_line(stream, line)
    except (FetchFailed, BadRequest) as failed:
        await write_line(stream, {"error": failed.text if isinstance(failed, BadRequest) else str(failed)})
    return stream

"""Routes that change what is there: pull and delete."""

from aiohttp import web

from cluster.runtime import dialect
from cluster.runtime.dialect import BadRequest
from cluster.runtime.front.http import LIBRARY, MEMORY, body_of, open_lines, write_line
from cluster.runtime.models import KNOWN, FetchFailed

NO_SUCH_MANIFEST = "pull model manifest: file does not exist"


async def pull(request: web.Request) -> web.StreamResponse:
    """`POST /api/pull`: fetch one of the models that we know; success only if the last line says so."""
    library, body = request.app[LIBRARY], await body_of(request)
    name = body.get("model") or body.get("name")
    if not isinstance(name, str) or not dialect.MODEL_NAME.match(name):
        raise BadRequest("invalid model name")
    known = KNOWN.get(dialect.full_name(name))
    if body.get("stream") is False:
        if known is None:
            raise BadRequest(NO_SUCH_MANIFEST, 500)
        try:
            async for _ in library.pull(known):
                pass
        except (FetchFailed, OSError) as failed:
            raise BadRequest(str(failed), 500) from failed
        return web.json_response({"status": "success"})
    stream = await open_lines(request)
    await write_line(stream, {"status": "pulling manifest"})
    try:
        if known is None:
            raise FetchFailed(NO_SUCH_MANIFEST)
        async for line in library.pull(known):
            await write_line(stream, line)
    except (FetchFailed, OSError) as failed:
        await write_line(stream, {"error": str(failed)})
    return stream


async def delete(request: web.Request) -> web.Response:
    """`DELETE /api/delete`: forget a model and its memory; its file stays in the user's cache."""
    library, body = request.app[LIBRARY], await body_of(request)
    model = library.find(body.get("model") or body.get("name"))
    del library.models[model.name]
    await request.app[MEMORY].unload(model.name)
    return web.Response()

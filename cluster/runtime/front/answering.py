"""Routes that run a model for text: chat and generate, as a stream of lines or as one object."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from aiohttp import web

from cluster.runtime.child import ChildFailed
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front import asking
from cluster.runtime.front.asking import Asked
from cluster.runtime.front.http import LIBRARY, MEMORY, body_of, now_text, open_lines, write_line
from cluster.runtime.front.memory import Memory
from cluster.runtime.front.running import End, Piece, prompt_for, run

Shape = Callable[[str], Json]


async def chat(request: web.Request) -> web.StreamResponse:
    """`POST /api/chat`."""
    started = time.monotonic_ns()
    body = await body_of(request)
    asked = asking.chat_of(body, request.app[LIBRARY].find(body.get("model")))
    return await _answered(request, asked, started, chat_shape)


def chat_shape(text: str) -> Json:
    """A piece of a chat's answer."""
    return {"message": {"role": "assistant", "content": text}}


async def generate(request: web.Request) -> web.StreamResponse:
    """`POST /api/generate`."""
    started = time.monotonic_ns()
    body = await body_of(request)
    if not body.get("model"):
        raise BadRequest("model '' not found", 404)
    asked = asking.generation_of(body, request.app[LIBRARY].find(body["model"]))
    return await _answered(request, asked, started, generate_shape)


def generate_shape(text: str) -> Json:
    """A piece of a generation."""
    return {"response": text}


async def _answered(request: web.Request, asked: Asked, started_ns: int, shape: Shape) -> web.StreamResponse:
    if asked.only_loads:
        return await load_or_unload(request.app[MEMORY], asked, shape)
    if asked.only_renders:
        return await render_only(request.app[MEMORY], asked)
    return await answer(request, asked, started_ns, shape)


async def load_or_unload(memory: Memory, asked: Asked, shape: Shape) -> web.Response:
    """An empty prompt loads the model, with `keep_alive: 0` it unloads it; one object, even when a stream was asked for."""
    if asked.keep_alive_s == 0:
        await memory.unload_when_idle(asked.model.name)
    else:
        await memory.load(asked.model, asked.options, asked.keep_alive_s)
    reason = "unload" if asked.keep_alive_s == 0 else "load"
    return web.json_response({"model": asked.name, "created_at": now_text(), **shape(""), "done": True, "done_reason": reason})


async def render_only(memory: Memory, asked: Asked) -> web.Response:
    """Answer the prompt as the model would read it, without running the model."""
    async with memory.slot(asked.model, asked.options, asked.keep_alive_s) as loaded:
        prompt = await prompt_for(loaded, asked)
    return web.json_response({"model": asked.name, "created_at": now_text(), "_debug_info": {"rendered_template": prompt}})


async def answer(request: web.Request, asked: Asked, started_ns: int, shape: Shape) -> web.StreamResponse:
    """Run a chat or a generation and answer it, as it was asked for."""
    async with aclosing(run(request.app[MEMORY], asked, started_ns)) as pieces:
        if asked.wants_stream:
            return await _in_lines(request, asked, pieces, shape)
        return web.json_response(await _whole(asked, pieces, shape))


async def _in_lines(request: web.Request, asked: Asked, pieces: AsyncIterator[Piece | End], shape: Shape) -> web.StreamResponse:
    """Answer piece by piece; what goes wrong before the first one has its own status, later it is the last line."""
    stream: web.StreamResponse | None = None
    try:
        async for piece in pieces:
            stream = stream or await open_lines(request)
            await write_line(stream, _line(asked, piece, shape))
    except (ChildFailed, BadRequest) as failed:
        if stream is None:
            raise
        await write_line(stream, {"error": failed.text if isinstance(failed, BadRequest) else str(failed)})
    assert stream is not None  # there is an end, always
    return stream


async def _whole(asked: Asked, pieces: AsyncIterator[Piece | End], shape: Shape) -> Json:
    texts: list[str] = []
    logprobs: list[Json] = []
    last = End()
    async for piece in pieces:
        if isinstance(piece, End):
            last = piece
        else:
            texts.append(piece.text)
            logprobs += piece.logprobs
    return _line(asked, Piece("".join(texts), logprobs), shape) | _line(asked, last, lambda _: {})


def _line(asked: Asked, piece: Piece | End, shape: Shape) -> Json:
    head = {"model": asked.name, "created_at": now_text()}
    if isinstance(piece, Piece):
        return head | shape(piece.text) | {"done": False} | ({"logprobs": piece.logprobs} if piece.logprobs else {})
    return head | shape("") | {"done": True} | ({"done_reason": piece.reason} if piece.reason else {}) | piece.counters

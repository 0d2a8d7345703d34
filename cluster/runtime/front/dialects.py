"""`/v1`: OpenAI's and Anthropic's dialects over the same models, by the same translation as the public API. Without keys, jobs or costs."""

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime

from aiohttp import web

from cluster.dialects import anthropic, openai
from cluster.dialects.answer import Ending, Head, Refusal, Writer
from cluster.dialects.asked import Asked
from cluster.dialects.table import DIALECTS, Dialect
from cluster.errors import InvalidRequest
from cluster.jobs import EndReason, JobKind, Text
from cluster.runtime.child import ChildFailed
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front import asking, embedding
from cluster.runtime.front.http import LIBRARY, MEMORY, body_of
from cluster.runtime.front.running import End, Piece, run

COUNTED_BY = "provider"
KINDS = {400: "invalid_request_error", 404: "not_found_error"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def refusal_of(failed: BadRequest | ChildFailed | InvalidRequest) -> Refusal:
    """Tell an error as the dialects write it."""
    status = failed.status if isinstance(failed, BadRequest) else 400 if isinstance(failed, InvalidRequest) else 500
    detail = failed.text if isinstance(failed, BadRequest) else str(failed)
    param = failed.param if isinstance(failed, InvalidRequest) else None
    return Refusal(status, "model_not_found" if status == 404 else "invalid_request", KINDS.get(status, "api_error"), detail, param, {})


def handler_of(dialect: Dialect) -> Handler:
    """Make the handler of a route."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            body = await body_of(request)
            return await answer(request, dialect, dialect.read(body))
        except (BadRequest, ChildFailed, InvalidRequest) as failed:
            refusal = refusal_of(failed)
            return web.json_response(dialect.error(refusal), status=refusal.status)

    return handle


async def answer(request: web.Request, dialect: Dialect, asked: Asked) -> web.StreamResponse:
    """Run what is asked and answer it, as a stream or whole.

    Raises:
        BadRequest: The request is wrong, or too many wait.
        ChildFailed: The model cannot be loaded, or its process died.
    """
    head = Head(job=secrets.token_hex(8), model=asked.model or "", created=int(time.time()), now=lambda: datetime.now(UTC))
    writer = dialect.writer(asked, head)
    if not asked.wants_stream:
        told = [one async for one in events(request, asked)]
        texts, ends = [one for one in told if isinstance(one, Text)], [one for one in told if isinstance(one, Ending)]
        return web.json_response(writer.whole(texts, ends[-1]))
    return await _streamed(request, writer, events(request, asked))


async def _streamed(request: web.Request, writer: Writer, told: AsyncIterator[Text | Ending]) -> web.StreamResponse:
    stream: web.StreamResponse | None = None
    try:
        async for one in told:
            if stream is None:
                stream = web.StreamResponse(headers={"Content-Type": writer.media_type})
                await stream.prepare(request)
                await stream.write(writer.begin())
            await stream.write(writer.text(one) if isinstance(one, Text) else writer.end(one))
    except (BadRequest, ChildFailed) as failed:
        if stream is None:
            raise
        await stream.write(writer.fail(refusal_of(failed)))
    assert stream is not None  # there is an end, always
    return stream


async def events(request: web.Request, asked: Asked) -> AsyncIterator[Text | Ending]:
    """Run what is asked; yield its texts and its end."""
    started_ns = time.monotonic_ns()
    model = request.app[LIBRARY].find(asked.model)
    if asked.kind is JobKind.EMBED:
        vectors, tokens = await embedding.embed_all(request.app[MEMORY], model, asked.request)
        yield Text(seq=0, embeddings=tuple(map(tuple, vectors)))
        yield Ending(reason=EndReason.STOP, prompt_tokens=tokens, completion_tokens=0, counted_by=COUNTED_BY)
        return
    body = ollamas_body(asked)
    wanted = asking.chat_of(body, model) if asked.kind is JobKind.CHAT else asking.generation_of(body, model)
    seq = 0
    async with aclosing(run(request.app[MEMORY], wanted, started_ns)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Piece):
                yield Text(seq=seq, content=piece.text, logprobs=tuple(piece.logprobs))
                seq += 1
            else:
                yield _ending(piece, time.monotonic_ns() - started_ns)


def ollamas_body(asked: Asked) -> Json:
    """Write what is asked as a request to Ollama's own route."""
    limit = {"num_predict": asked.max_tokens} if asked.max_tokens else {}
    return {**asked.request, "model": asked.model, "options": {**asked.request.get("options", {}), **limit}}


def _ending(end: End, total_ns: int) -> Ending:
    return Ending(
        reason=EndReason.LENGTH if end.reason == "length" else EndReason.STOP, prompt_tokens=end.counters.get("prompt_eval_count", 0),
        completion_tokens=end.counters.get("eval_count", 0), counted_by=COUNTED_BY, total_ns=total_ns,
    )  # fmt: skip


async def list_models(request: web.Request) -> web.Response:
    """`GET /v1/models`."""
    models = sorted(request.app[LIBRARY].models.values(), key=lambda model: -model.modified_at)
    return web.json_response({"object": "list", "data": [openai.model_row(model.name, int(model.modified_at)) for model in models]})


async def get_model(request: web.Request) -> web.Response:
    """`GET /v1/models/{id}`; ids may contain slashes."""
    try:
        model = request.app[LIBRARY].find(request.match_info["name"])
    except BadRequest as unknown:
        error = anthropic.error_body if "anthropic-version" in request.headers else openai.error_body
        return web.json_response(error(refusal_of(unknown)), status=unknown.status)
    return web.json_response(openai.model_row(model.name, int(model.modified_at)))


ROUTES = [
    *(web.post(path, handler_of(dialect)) for path, dialect in DIALECTS.items() if path.startswith("/v1/")),
    web.get("/v1/models", list_models),
    web.get("/v1/models/{name:.+}", get_model),
]

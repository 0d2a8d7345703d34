"""`/v1`: OpenAI's chat completions and models. Bare Starlette routes: this is the hot path."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cluster.errors import ClusterError
from cluster.jobs import Beat, Text
from ledger.client import LedgerError, job_id
from serve_app.adoption import drain, let_go
from serve_app.api.bodies import read_json
from serve_app.api.openai_dialect import ChunkWriter, chat_request, completion
from serve_app.api.sse import EventStream
from serve_app.auth import credential_of
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.driving import Driven, drive
from serve_app.errors import InvalidRequest, RequestReplayed, ServeError
from serve_app.job import Finished, OpenJob
from serve_app.placing import require_model
from serve_app.problems import as_openai, openai_error
from serve_app.store.answers import told_of
from serve_app.store.records import JobRecord, JobState
from serve_app.submission import open_job

log = structlog.get_logger()
MAX_KEY_LENGTH = 255
REPLAY_RETRY_S = 2
PING = b": ping\n\n"
T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Any]]


def in_openais_words(endpoint: Endpoint) -> Endpoint:
    """Turn errors into OpenAI's shape; what nobody expected is logged once and answered 500."""

    async def guarded(request: Request) -> Any:
        try:
            return await endpoint(request)
        except (ServeError, LedgerError, ClusterError, DatabaseUnavailable) as error:
            return as_openai(error)
        except Exception as error:
            log.exception("request_failed", path=request.url.path)
            return as_openai(error)

    return guarded


@in_openais_words
async def create_chat_completion(request: Request) -> Any:
    """`POST /v1/chat/completions`."""
    context: ServeContext = request.app.state.context
    credential = credential_of(request.headers.get("authorization"), request.headers.get("x-api-key"))
    body = await read_json(request)
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= MAX_KEY_LENGTH:
        raise InvalidRequest(f"`Idempotency-Key` must have 1 to {MAX_KEY_LENGTH} characters.", "Idempotency-Key")
    settings = context.settings
    model = body.get("model") if isinstance(body.get("model"), str) else settings.default_model
    asked = chat_request(body, default_model=settings.default_model, default_max_tokens=settings.max_tokens, idempotency_key=key)
    longest = require_model(model or settings.default_model, context.view.snapshot, context.feed.catalog)
    if asked.max_tokens > longest:
        raise InvalidRequest(f"`max_tokens` is {asked.max_tokens}, the model's context has {longest} tokens.", "max_tokens")
    wants_stream = body.get("stream") is True
    if body.get("stream") not in (None, True, False):
        raise InvalidRequest("`stream` must be true or false.", "stream")
    includes_usage = wants_stream and _wants_usage(body)
    try:
        job = await open_job(context, credential, asked)
    except RequestReplayed as replayed:
        return await _replayed(context, replayed)
    try:
        return await (_stream(request, context, job, includes_usage=includes_usage) if wants_stream else _whole(request, context, job))
    except (ServeError, LedgerError, ClusterError, DatabaseUnavailable) as error:
        answer = as_openai(error)
        answer.headers["X-GFE-Job"] = job.name  # what became of it, and what it cost, can be looked up
        return answer


def _wants_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise InvalidRequest("`stream_options` must be an object.", "stream_options")
    return bool(options and options.get("include_usage"))


async def _whole(request: Request, context: ServeContext, job: OpenJob) -> Response:
    """Read the job to its end and answer at once."""
    texts, finished = await _unless_left(request, context, job, _read(drive(context, job)))
    return JSONResponse(completion(job.name, job.asked.model, int(time.time()), texts, finished), headers={"X-GFE-Job": job.name})


async def _unless_left(
    request: Request, context: ServeContext, job: OpenJob, work: Coroutine[Any, Any, T], rest: Driven | None = None
) -> T:
    """Do the work, unless the client leaves before it is done: then it is canceled.

    A client that named its request by an Idempotency-Key can come back to it: its job goes on for a while, the `rest` of it included.

    Raises:
        InvalidRequest: The client left; nobody reads this.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise InvalidRequest("The client left.")
    finally:  # done, left, or canceled: Ray Serve cancels the request of a client that leaves
        ends: list[asyncio.Future[Any]] = [leaving]
        if job.asked.idempotency_key is not None and not working.done():
            context.spawn(let_go(context, job, asyncio.create_task(_unheard(working, rest))))
        else:
            ends.append(working)
        for task in ends:
            task.cancel()
        await asyncio.gather(*ends, return_exceptions=True)


async def _unheard(working: "asyncio.Future[Any]", rest: Driven | None) -> None:
    """Go on with what nobody hears; canceled with it."""
    with suppress(ServeError, LedgerError, ClusterError, DatabaseUnavailable):
        await working
        if rest is not None:
            await drain(rest)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _read(driven: Driven) -> tuple[list[Text], Finished]:
    texts: list[Text] = []
    async with aclosing(driven) as events:
        async for event in events:
            if isinstance(event, Text):
                texts.append(event)
            elif isinstance(event, Finished):
                return texts, event
    raise AssertionError("a job ends with Finished or an error")


async def _stream(request: Request, context: ServeContext, job: OpenJob, *, includes_usage: bool) -> EventStream:
    """Begin a stream: the first event is awaited, so that a job that fails before it gets a true status."""
    events = drive(context, job)
    is_named = job.asked.idempotency_key is not None
    try:
        first = await _unless_left(request, context, job, _first(events), events)
    except BaseException:
        if not is_named:
            await events.aclose()
        raise
    chunks = ChunkWriter(job.name, job.asked.model, int(time.time()), includes_usage=includes_usage)

    def left(reading: "asyncio.Task[None]") -> None:
        context.spawn(let_go(context, job, reading))

    return EventStream(_chunks(events, first, chunks), {"X-GFE-Job": job.name}, left if is_named else None)


async def _first(events: Driven) -> Text | Beat | Finished:
    return await anext(events)


async def _chunks(events: Driven, first: Text | Beat | Finished, chunks: ChunkWriter) -> AsyncGenerator[bytes, None]:
    """Write events as chunks. A stream that breaks ends with an error event and without `[DONE]`."""

    def written(event: Text | Beat | Finished) -> bytes:
        if isinstance(event, Text):
            return chunks.text(event)
        return chunks.end(event) if isinstance(event, Finished) else PING

    async with aclosing(events):
        try:
            yield written(first)
            async for event in events:
                yield written(event)
        except (ServeError, LedgerError, ClusterError, DatabaseUnavailable) as error:
            yield b"data: " + json.dumps(openai_error(error)).encode() + b"\n\n"


async def _replayed(context: ServeContext, replayed: RequestReplayed) -> Response:
    """Answer a repeated Idempotency-Key from the stored job."""
    record = await context.store.find(replayed.job)
    if record is None or not record.has_ended:
        await context.store.note_seen(replayed.job)
        body = {
            "error": {"message": "This request is still running.", "type": "invalid_request_error", "param": None, "code": "in_progress"}
        }
        return JSONResponse(body, 409, {"Retry-After": str(REPLAY_RETRY_S)})
    if record.state is JobState.SUCCEEDED:
        name = job_id(record.id)
        body = completion(
            name, record.model, int(record.created_at.timestamp()), told_of(record.result, record.marks), _finished_of(record)
        )
        return JSONResponse(body, headers={"X-GFE-Job": name, "Idempotent-Replayed": "true"})
    body = {"error": {"message": record.error or "The job failed.", "type": "api_error", "param": None, "code": "job_failed"}}
    return JSONResponse(body, 502, {"X-GFE-Job": job_id(record.id), "Idempotent-Replayed": "true"})


def _finished_of(record: JobRecord) -> Finished:
    from cluster.jobs import EndReason  # noqa: PLC0415 - only on a replay

    prompt, completed = record.prompt_tokens or 0, record.completion_tokens or 0
    reason = EndReason.LENGTH if completed >= int(record.request.get("max_tokens") or completed + 1) else EndReason.STOP
    counted_by = record.counted_by or "provider"
    return Finished(reason=reason, prompt_tokens=prompt, completion_tokens=completed, counted_by=counted_by, cost=record.cost or 0)


def _model_row(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "providers"}


async def _authenticated(request: Request) -> ServeContext:
    context: ServeContext = request.app.state.context
    await context.callers.require(credential_of(request.headers.get("authorization"), request.headers.get("x-api-key")), "jobs:read")
    return context


@in_openais_words
async def list_models(request: Request) -> Response:
    """`GET /v1/models`."""
    context = await _authenticated(request)
    names = sorted(filter(context.feed.catalog.allows, context.view.snapshot.models()))
    return JSONResponse({"object": "list", "data": [_model_row(name, 0) for name in names]})


@in_openais_words
async def get_model(request: Request) -> Response:
    """`GET /v1/models/{id}`."""
    context = await _authenticated(request)
    name = request.path_params["name"]
    require_model(name, context.view.snapshot, context.feed.catalog)
    return JSONResponse(_model_row(name, 0))


@in_openais_words
async def unknown_route(request: Request) -> Response:
    """Any other path below `/v1`."""
    body = {
        "error": {
            "message": f"Unknown route {request.method} {request.url.path}.",
            "type": "not_found_error",
            "param": None,
            "code": "not_found",
        }
    }
    return JSONResponse(body, 404)


ROUTES = [
    Route("/v1/chat/completions", create_chat_completion, methods=["POST"]),
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/models/{name:path}", get_model, methods=["GET"]),
    Route("/v1/{rest:path}", unknown_route, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
]

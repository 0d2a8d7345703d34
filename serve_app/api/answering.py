"""Every route that runs a job while its client reads along: the same path for each dialect (`cluster/dialects/table.py`).

Authenticate, read, hold and record, then answer: as a stream, or whole. A repeat under the same Idempotency-Key finds the job that is there: a
stream is read along from its beginning, whether it still runs or ended long ago. Bare Starlette: this is the hot path.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cluster.dialects.answer import Ending, Head, Refusal, Writer
from cluster.dialects.table import DIALECTS, Dialect
from cluster.errors import InvalidRequest
from cluster.jobs import Beat, EndReason, Text
from ledger.client import credits_text, job_id
from serve_app.adoption import drain, let_go
from serve_app.api.bodies import read_json
from serve_app.api.sse import EventStream
from serve_app.asking import job_request_of, offered_name
from serve_app.auth import credential_of
from serve_app.context import ServeContext
from serve_app.driving import Driven, drive
from serve_app.errors import AnswerCanceled, JobFailed, RequestReplayed, ServeError, StillRunning
from serve_app.following import Followed, follow
from serve_app.job import Finished, JobRequest, OpenJob
from serve_app.placing import require_model
from serve_app.problems import KNOWN_ERRORS, PlainJSON, headers_of, problem_of
from serve_app.store.answers import told_of
from serve_app.store.records import JobRecord, JobState
from serve_app.submission import open_job

log = structlog.get_logger()
SIGN_OF_LIFE_S = 1.0
T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Any]]


def in_words_of(error: Callable[[Refusal], dict[str, Any]]) -> Callable[[Endpoint], Endpoint]:
    """Turn what an endpoint raises into a dialect's errors; what nobody expected is logged once and answered 500."""

    def guard(endpoint: Endpoint) -> Endpoint:
        async def guarded(request: Request) -> Any:
            try:
                return await endpoint(request)
            except KNOWN_ERRORS as known:
                return refused(known, error)
            except Exception as unknown:
                log.exception("request_failed", path=request.url.path)
                return refused(unknown, error)

        return guarded

    return guard


def refused(raised: Exception, error: Callable[[Refusal], dict[str, Any]]) -> Response:
    """Write an error as an answer."""
    refusal = problem_of(raised)
    return PlainJSON(error(refusal), refusal.status, headers_of(refusal))


class Exchange:
    """One request and its answer: what was asked, in which dialect, by which job it is answered."""

    def __init__(self, request: Request, dialect: Dialect, body: dict[str, Any]) -> None:
        """Read the body.

        Raises:
            InvalidRequest: A field is wrong.
        """
        self.request, self.dialect, self.body = request, dialect, body
        self.context: ServeContext = request.app.state.context
        self.asked = dialect.read(body)
        self.began_ns = time.monotonic_ns()
        self.first_ns = 0

    def writer(self, job: str, model: str, created: float) -> Writer:
        """Begin the answer; the model is called as the client called it."""
        head = Head(job=job, model=self.asked.model or model, created=int(created), now=_now)
        return self.dialect.writer(self.asked, head)

    def note(self, event: Text | Beat | Finished) -> None:
        """Remember when the first text came."""
        if not self.first_ns and isinstance(event, Text):
            self.first_ns = time.monotonic_ns() - self.began_ns

    def ending(self, finished: Finished) -> Ending:
        """Tell how the job ended, and how long it took."""
        return Ending(
            reason=finished.reason, prompt_tokens=finished.prompt_tokens, completion_tokens=finished.completion_tokens,
            counted_by=finished.counted_by, cost=credits_text(finished.cost), first_ns=self.first_ns, total_ns=time.monotonic_ns() - self.began_ns,
        )  # fmt: skip


def _now() -> datetime:
    return datetime.now(UTC)


def endpoint_of(dialect: Dialect) -> Endpoint:
    """Make the endpoint of a route."""

    @in_words_of(dialect.error)
    async def endpoint(request: Request) -> Any:
        context: ServeContext = request.app.state.context
        credential = credential_of(request.headers.get("authorization"), request.headers.get("x-api-key"))
        body = await read_json(request)
        if dialect.moved and (moved := dialect.moved(body, _now())):
            await context.callers.require(credential, "jobs:write")
            require_model(offered_name(context, moved[0]), context.view.snapshot, context.feed.catalog)
            return PlainJSON(moved[1])
        exchange = Exchange(request, dialect, body)
        key = request.headers.get("idempotency-key")
        return await answer(
            exchange, credential, job_request_of(context, exchange.asked, idempotency_key=key, body=[request.url.path, exchange.body])
        )

    return endpoint


async def answer(exchange: Exchange, credential: str, asked: JobRequest) -> Any:
    """Run the job and answer it."""
    context = exchange.context
    try:
        job = await open_job(context, credential, asked)
    except RequestReplayed as replayed:
        return await _replayed(exchange, replayed)
    try:
        return await (_stream(exchange, job) if exchange.asked.wants_stream else _whole(exchange, job))
    except KNOWN_ERRORS as known:
        told = refused(known, exchange.dialect.error)
        told.headers.update(job.headers)  # what became of it, and what it cost, can be looked up
        return told


# --- whole ----------------------------------------------------------------------------------------------------------------------------


async def _whole(exchange: Exchange, job: OpenJob) -> Response:
    """Read the job to its end and answer at once."""
    texts, finished = await _unless_left(exchange, job, _read(exchange, drive(exchange.context, job)))
    require_answered(job, finished)
    writer = exchange.writer(job.name, job.asked.model, time.time())
    return _told_whole(writer, texts, exchange.ending(finished), job.headers)


def _told_whole(writer: Writer, texts: list[Text], ending: Ending, headers: dict[str, str]) -> Response:
    return PlainJSON(writer.whole(texts, ending), headers=headers | {"X-GFE-Cost": str(ending.cost)})


async def _read(exchange: Exchange, driven: Driven) -> tuple[list[Text], Finished]:
    texts: list[Text] = []
    async with aclosing(driven) as events:
        async for event in events:
            exchange.note(event)
            if isinstance(event, Text):
                texts.append(event)
            elif isinstance(event, Finished):
                return texts, event
    raise AssertionError("a job ends with Finished or an error")


async def _unless_left(exchange: Exchange, job: OpenJob, work: Coroutine[Any, Any, T], rest: Driven | None = None) -> T:
    """Do the work, unless the client leaves before it is done: then it is canceled.

    A client that named its request by an Idempotency-Key can come back to it: its job goes on for a while, the `rest` of it included.

    Raises:
        InvalidRequest: The client left; nobody reads this.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(exchange.request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise InvalidRequest("The client left.")
    finally:  # done, left, or canceled: Ray Serve cancels the request of a client that leaves
        ends: list[asyncio.Future[Any]] = [leaving]
        if job.asked.idempotency_key is not None and not working.done():
            exchange.context.spawn(let_go(exchange.context, job, asyncio.create_task(_unheard(working, rest))))
        else:
            ends.append(working)
        for task in ends:
            task.cancel()
        await asyncio.gather(*ends, return_exceptions=True)


async def _unheard(working: "asyncio.Future[Any]", rest: Driven | None) -> None:
    """Go on with what nobody hears; canceled with it."""
    with suppress(*KNOWN_ERRORS):
        await working
        if rest is not None:
            await drain(rest)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


# --- streams --------------------------------------------------------------------------------------------------------------------------


async def _stream(exchange: Exchange, job: OpenJob) -> EventStream:
    """Begin a stream: the first event is awaited, so that a job that fails before it gets a true status."""
    context = exchange.context
    events = drive(context, job)
    is_named = job.asked.idempotency_key is not None
    try:
        first = await _unless_left(exchange, job, _first(events), events)
    except BaseException:
        if not is_named:
            await events.aclose()
        raise
    try:
        require_answered(job, first)
    except AnswerCanceled:
        await events.aclose()
        raise
    writer = exchange.writer(job.name, job.asked.model, time.time())

    def left(reading: "asyncio.Task[None]") -> None:
        context.spawn(let_go(context, job, reading))

    told = _pieces(exchange, writer, job, events, first)
    return EventStream(told, job.headers, left if is_named else None, media_type=writer.media_type)


async def _first(events: Driven) -> Text | Beat | Finished:
    return await anext(events)


async def _pieces(
    exchange: Exchange, writer: Writer, job: OpenJob, events: Driven, first: Text | Beat | Finished
) -> AsyncGenerator[bytes, None]:
    """Write events as the dialect does. A stream that breaks ends with the dialect's error, and without its usual end."""

    def written(event: Text | Beat | Finished) -> bytes:
        exchange.note(event)
        if isinstance(event, Text):
            return writer.text(event)
        require_answered(job, event)
        return writer.end(exchange.ending(event)) if isinstance(event, Finished) else writer.beat()

    async with aclosing(events):
        try:
            yield writer.begin() + written(first)
            async for event in events:
                yield written(event)
        except KNOWN_ERRORS as known:
            yield writer.fail(problem_of(known))


# --- repeats --------------------------------------------------------------------------------------------------------------------------


async def _replayed(exchange: Exchange, replayed: RequestReplayed) -> Any:
    """Answer a repeated Idempotency-Key from the job that is there.

    Raises:
        StillRunning: It runs, and the whole answer was asked for.
        JobFailed: It failed before it said anything.
        AnswerCanceled: It was canceled before it said anything.
    """
    context, name = exchange.context, job_id(replayed.job)
    record = await context.store.find(replayed.job)
    if record is None or not (record.has_ended or exchange.asked.wants_stream):
        await context.store.note_seen(replayed.job)
        raise StillRunning(name)
    writer = exchange.writer(name, record.model, record.created_at.timestamp())
    texts = [text for text in told_of(record.result, record.marks) if text.content or text.thinking or text.tool_calls or text.embeddings]
    is_good = record.state is JobState.SUCCEEDED
    headers = {"X-GFE-Job": name, "Idempotent-Replayed": "true"}
    if record.has_ended and not is_good and (not texts or not exchange.asked.wants_stream):
        raise failure_of(record)
    if exchange.asked.wants_stream:
        told = _followed(exchange, writer, follow(context, record, 0))
        return EventStream(told, headers, media_type=writer.media_type)
    return _told_whole(writer, texts, exchange.ending(finished_of(record)), headers)


async def _followed(exchange: Exchange, writer: Writer, events: AsyncGenerator[Followed, None]) -> AsyncGenerator[bytes, None]:
    """Write a job that somebody else drives, from its beginning."""
    async with aclosing(events):
        try:
            if begin := writer.begin():
                yield begin
            told_at = time.monotonic()
            async for said in events:
                if isinstance(said, Text):
                    exchange.note(said)
                    yield writer.text(said)
                elif isinstance(said, JobRecord):
                    if said.state is not JobState.SUCCEEDED:
                        raise failure_of(said)
                    yield writer.end(exchange.ending(finished_of(said)))
                elif time.monotonic() - told_at < SIGN_OF_LIFE_S:
                    continue  # of what was told long ago, silences too come at once
                else:
                    yield writer.beat()
                told_at = time.monotonic()
        except KNOWN_ERRORS as known:
            yield writer.fail(problem_of(known))


def finished_of(record: JobRecord) -> Finished:
    """Read the end of a job that ended well."""
    prompt, completed = record.prompt_tokens or 0, record.completion_tokens or 0
    reason = EndReason.LENGTH if completed >= int(record.request.get("max_tokens") or completed + 1) else EndReason.STOP
    return Finished(
        reason=reason, prompt_tokens=prompt, completion_tokens=completed, counted_by=record.counted_by or "provider", cost=record.cost or 0
    )


def require_answered(job: OpenJob, event: Text | Beat | Finished) -> None:
    """See that a job, if it ended, ended with an answer.

    Raises:
        AnswerCanceled: Its owner canceled it.
    """
    if isinstance(event, Finished) and event.reason is EndReason.CANCELED:
        raise AnswerCanceled(job.name, event.cost)


def failure_of(record: JobRecord) -> ServeError:
    """Tell how a job that has ended came to no answer."""
    if record.state is JobState.CANCELED:
        return AnswerCanceled(job_id(record.id), record.cost or 0)
    return JobFailed(job_id(record.id), record.error or "The job failed.")


ROUTES = [Route(path, endpoint_of(dialect), methods=["POST"]) for path, dialect in DIALECTS.items()]

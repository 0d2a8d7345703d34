"""`/api/computing/`: the jobs API of the seed; here a job's detail (S18), why it went where it went, and its stream (L12)."""

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cluster.errors import ClusterError
from cluster.jobs import Beat, Text
from ledger.client import LedgerError, credits_text, job_id, uuid_of_job
from serve_app.api.sse import EventStream
from serve_app.auth import credential_of
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.errors import InvalidRequest, NotYourJob, ServeError, UnknownJob
from serve_app.following import Followed, follow
from serve_app.problems import as_problem_json, problem_of
from serve_app.store.answers import told_of
from serve_app.store.records import WIRE_STATES, JobRecord, JobState

CREDENTIAL_S = 15.0  # so often a long stream's credential is checked again
MAX_SEQ = 2**31 - 1
PING = b": ping\n\n"


async def get_job(request: Request) -> Response:
    """`GET /api/computing/jobs/<id>/`: owner only."""
    try:
        return JSONResponse(await _detail(request), headers={"Cache-Control": "no-store"})
    except (ServeError, LedgerError, ClusterError, DatabaseUnavailable) as error:
        return as_problem_json(error)


async def _detail(request: Request) -> dict[str, Any]:
    record = await _own(request)
    return job_row(record) | {"wait": await _wait(request.app.state.context, record)}


async def _wait(context: ServeContext, record: JobRecord) -> dict[str, Any] | None:
    """Tell how many jobs go before one that waits, and how long it is likely to wait still; None: it does not wait, or nobody can say."""
    standing = await context.view.wait_of(job_id(record.id)) if record.state is JobState.QUEUED else None
    return {"ahead": standing.ahead, "estimated_s": round(standing.estimated_s, 1)} if standing else None


async def why(request: Request) -> Response:
    """`GET /api/computing/jobs/<id>/why/`: why the job went where it went, or why it still waits; one sentence per node."""
    try:
        context, record = request.app.state.context, await _own(request)
        return JSONResponse(_why(context, record) | {"wait": await _wait(context, record)}, headers={"Cache-Control": "no-store"})
    except (ServeError, LedgerError, ClusterError, DatabaseUnavailable) as error:
        return as_problem_json(error)


def _why(context: ServeContext, record: JobRecord) -> dict[str, Any]:
    names = {id_: node.name for id_, node in context.view.snapshot.nodes.items()}
    return {
        "id": job_id(record.id),
        "status": WIRE_STATES[record.state],
        "attempts": record.attempt,
        "waiting": context.view.snapshot.waiting.get(record.model, 0) if record.state is JobState.QUEUED else None,
        "decisions": [one | {"name": names.get(one["node"], one["node"])} for one in record.why],
        "error": record.error,
    }


async def _own(request: Request) -> JobRecord:
    """Find the caller's job."""
    context: ServeContext = request.app.state.context
    caller = await context.callers.require(credential_of(request.headers.get("authorization")), "jobs:read")
    try:
        id_ = uuid_of_job(request.path_params["id"])
    except ValueError as wrong:
        raise UnknownJob from wrong
    record = await context.store.find(id_)
    if record is None:
        raise UnknownJob
    if record.user != caller.user:
        raise NotYourJob
    return record


async def stream(request: Request) -> Any:
    """`GET /api/computing/jobs/<id>/stream/?from=seq`: a job's events from a position on, as server-sent events, to its end."""
    context: ServeContext = request.app.state.context
    try:
        record = await _own(request)
        position = _position(request)
    except (ServeError, LedgerError, ClusterError, DatabaseUnavailable) as error:
        return as_problem_json(error)
    credential = credential_of(request.headers.get("authorization"))
    told = _told(context, credential, follow(context, record, position), position)
    return EventStream(told, {"X-GFE-Job": job_id(record.id)})


def _position(request: Request) -> int:
    """Read where to begin: `from`, or what comes after `Last-Event-ID`, which browsers send when they reconnect.

    Raises:
        InvalidRequest: It is not a number from 0.
    """
    last = request.headers.get("last-event-id")
    text = request.query_params.get("from")
    if text is None and last is not None and last.isdecimal():
        return min(MAX_SEQ, int(last) + 1)
    if text is None:
        return 0
    if not (text.isascii() and text.isdecimal()) or int(text) > MAX_SEQ:
        raise InvalidRequest("`from` must be a whole number from 0: the number of the first event that you want.", "from")
    return int(text)


async def _told(context: ServeContext, credential: str, events: AsyncGenerator[Followed, None], seq: int) -> AsyncGenerator[bytes, None]:
    """Write events; a credential that ends in the meantime ends the stream."""
    checked_at = time.monotonic()
    async with aclosing(events):
        try:
            async for said in events:
                if time.monotonic() - checked_at > CREDENTIAL_S:
                    checked_at = time.monotonic()
                    await context.callers.require(credential, "jobs:read")
                if said is None:
                    yield PING
                elif isinstance(said, JobRecord):
                    yield _event(seq, "end", job_row(said) | {"counted_by": said.counted_by})
                else:
                    seq = said.seq + 1
                    yield _event(said.seq, "beat", {}) if isinstance(said, Beat) else _event(said.seq, "text", _text(said))
        except (ServeError, LedgerError, ClusterError, DatabaseUnavailable) as error:
            problem = problem_of(error)
            yield _event(seq, "error", {"status": problem.status, "code": problem.code, "detail": problem.detail})


def _text(said: Text) -> dict[str, Any]:
    more = {"thinking": said.thinking, "tool_calls": said.tool_calls, "embeddings": said.embeddings}
    return {"content": said.content} | {name: value for name, value in more.items() if value}


def _event(seq: int, name: str, said: dict[str, Any]) -> bytes:
    return f"id: {seq}\nevent: {name}\ndata: {json.dumps({'seq': seq, 'event': name, **said})}\n\n".encode()


def job_row(record: JobRecord) -> dict[str, Any]:
    """Write a job as the API tells it."""
    messages = record.request.get("messages") or [{"content": record.request.get("prompt", "")}]
    has_usage = record.prompt_tokens is not None
    return {
        "id": job_id(record.id),
        "status": WIRE_STATES[record.state],
        "result": _result(record),
        "prompt": messages[-1].get("content", ""),
        "model": record.model,
        "cost": None if record.cost is None else credits_text(record.cost),
        "held": credits_text(record.held),
        "created_at": record.created_at.isoformat(),
        "started_at": record.started_at.isoformat() if record.started_at else None,
        "completed_at": record.ended_at.isoformat() if record.ended_at else None,
        "node": {"id": record.node, "name": record.node, "provider": None} if record.node else None,
        "usage": {"prompt_tokens": record.prompt_tokens, "completion_tokens": record.completion_tokens} if has_usage else None,
        "attempts": record.attempt,
        "incomplete": record.is_incomplete,
    }


def _result(record: JobRecord) -> dict[str, str] | None:
    if record.state in {JobState.QUEUED, JobState.RUNNING}:
        return None
    result = {}
    if record.result is not None:
        result["output"] = "".join(text.content for text in told_of(record.result, record.marks))
    if record.error:
        result["error"] = record.error
    return result or None


ROUTES = [
    Route("/api/computing/jobs/{id}/", get_job, methods=["GET"]),
    Route("/api/computing/jobs/{id}", get_job, methods=["GET"]),
    Route("/api/computing/jobs/{id}/stream/", stream, methods=["GET"]),
    Route("/api/computing/jobs/{id}/stream", stream, methods=["GET"]),
    Route("/api/computing/jobs/{id}/why/", why, methods=["GET"]),
    Route("/api/computing/jobs/{id}/why", why, methods=["GET"]),
]

"""`/api/computing/jobs/`: a person's jobs (S20), one of them (S18), why it went where it went, its stream and its end (L12)."""

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request

from cluster.errors import InvalidRequest
from cluster.jobs import Beat, Text
from ledger.client import job_id, uuid_of_job
from serve_app.api.answering_json import NOT_KEPT, both, require_caller
from serve_app.api.job_rows import short_row, whole_row
from serve_app.api.queries import cursor_to, page_size, place_of
from serve_app.api.sse import EventStream
from serve_app.auth import credential_of
from serve_app.canceling import cancel
from serve_app.context import ServeContext
from serve_app.errors import NotYourJob, UnknownJob
from serve_app.following import Followed, follow
from serve_app.problems import KNOWN_ERRORS, PlainJSON, problem_of
from serve_app.store.records import WIRE_STATES, JobRecord, JobState

CREDENTIAL_S = 15.0  # so often a long stream's credential is checked again
MAX_SEQ = 2**31 - 1
MAX_MODEL = 300
PING = b": ping\n\n"
STATES = {word: state for state, word in WIRE_STATES.items()}


async def list_jobs(request: Request, context: ServeContext) -> Any:
    """`GET /api/computing/jobs/`: the caller's jobs, newest first, without their answers."""
    caller = await require_caller(request, context, "jobs:read")
    limit, after = page_size(request), place_of(request)
    jobs = await context.pages.page(caller.user, limit + 1, after=after, state=_state(request), model=_model(request))
    page, last = jobs[:limit], jobs[limit - 1] if len(jobs) > limit else None
    following = cursor_to(last.created_at.isoformat(), last.id.hex) if last else None
    return {"results": [short_row(job) for job in page], "next": following}


def _state(request: Request) -> JobState | None:
    word = request.query_params.get("status")
    if word is None:
        return None
    if word not in STATES:
        raise InvalidRequest(f"`status` must be one of {', '.join(STATES)}.", "status")
    return STATES[word]


def _model(request: Request) -> str | None:
    name = request.query_params.get("model")
    if name is not None and (len(name) > MAX_MODEL or "\0" in name):
        raise InvalidRequest("`model` is not a name.", "model")
    return name


async def get_job(request: Request, context: ServeContext) -> Any:
    """`GET /api/computing/jobs/<id>/`: owner only."""
    record = await own_job(request, context, "jobs:read")
    return whole_row(context, record) | {"wait": await _wait(context, record)}


async def cancel_job(request: Request, context: ServeContext) -> Any:
    """`POST /api/computing/jobs/<id>/cancel/` and `DELETE /api/computing/jobs/<id>/`: it stops within a second; what it cost is in its row then."""
    record = await own_job(request, context, "jobs:write")
    await cancel(context, record)
    return PlainJSON(whole_row(context, record), 202, NOT_KEPT)


async def _wait(context: ServeContext, record: JobRecord) -> dict[str, Any] | None:
    """Tell how many jobs go before one that waits, and how long it is likely to wait still; None: it does not wait, or nobody can say."""
    standing = await context.view.wait_of(job_id(record.id)) if record.state is JobState.QUEUED else None
    return {"ahead": standing.ahead, "estimated_s": round(standing.estimated_s, 1)} if standing else None


async def why(request: Request, context: ServeContext) -> Any:
    """`GET /api/computing/jobs/<id>/why/`: why the job went where it went, or why it still waits; one sentence per node."""
    record = await own_job(request, context, "jobs:read")
    return _why(context, record) | {"wait": await _wait(context, record)}


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


async def own_job(request: Request, context: ServeContext, scope: str) -> JobRecord:
    """Find the caller's job.

    Raises:
        UnknownJob: There is none with this id.
        NotYourJob: It is somebody else's.
    """
    caller = await require_caller(request, context, scope)
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


async def stream(request: Request, context: ServeContext) -> Any:
    """`GET /api/computing/jobs/<id>/stream/?from=seq`: a job's events from a position on, as server-sent events, to its end."""
    record = await own_job(request, context, "jobs:read")
    position = _position(request)
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
                    yield _event(seq, "end", whole_row(context, said) | {"counted_by": said.counted_by})
                else:
                    seq = said.seq + 1
                    yield _event(said.seq, "beat", {}) if isinstance(said, Beat) else _event(said.seq, "text", _text(said))
        except KNOWN_ERRORS as error:
            problem = problem_of(error)
            yield _event(seq, "error", {"status": problem.status, "code": problem.code, "detail": problem.detail})


def _text(said: Text) -> dict[str, Any]:
    more = {"thinking": said.thinking, "tool_calls": said.tool_calls, "embeddings": said.embeddings}
    return {"content": said.content} | {name: value for name, value in more.items() if value}


def _event(seq: int, name: str, said: dict[str, Any]) -> bytes:
    return f"id: {seq}\nevent: {name}\ndata: {json.dumps({'seq': seq, 'event': name, **said})}\n\n".encode()


ROUTES = [
    *both("/api/computing/jobs/", list_jobs),
    *both("/api/computing/jobs/{id}/", get_job),
    *both("/api/computing/jobs/{id}/", cancel_job, "DELETE"),
    *both("/api/computing/jobs/{id}/cancel/", cancel_job, "POST"),
    *both("/api/computing/jobs/{id}/stream/", stream),
    *both("/api/computing/jobs/{id}/why/", why),
]

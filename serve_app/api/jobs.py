"""`/api/computing/`: the jobs API of the seed; here the job's detail (S18)."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cluster.errors import ClusterError
from ledger.client import LedgerError, credits_text, job_id, uuid_of_job
from serve_app.auth import credential_of
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.errors import NotYourJob, ServeError, UnknownJob
from serve_app.problems import as_problem_json
from serve_app.store.jobs import WIRE_STATES, JobRecord, JobState


async def get_job(request: Request) -> Response:
    """`GET /api/computing/jobs/<id>/`: owner only."""
    try:
        return JSONResponse(await _detail(request), headers={"Cache-Control": "no-store"})
    except (ServeError, LedgerError, ClusterError, DatabaseUnavailable) as error:
        return as_problem_json(error)


async def _detail(request: Request) -> dict[str, Any]:
    return _row(await _own(request))


async def why(request: Request) -> Response:
    """`GET /api/computing/jobs/<id>/why/`: why the job went where it went, or why it still waits; one sentence per node."""
    try:
        return JSONResponse(_why(request.app.state.context, await _own(request)), headers={"Cache-Control": "no-store"})
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


def _row(record: JobRecord) -> dict[str, Any]:
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
        result["output"] = record.result
    if record.error:
        result["error"] = record.error
    return result or None


ROUTES = [
    Route("/api/computing/jobs/{id}/", get_job, methods=["GET"]),
    Route("/api/computing/jobs/{id}", get_job, methods=["GET"]),
    Route("/api/computing/jobs/{id}/why/", why, methods=["GET"]),
    Route("/api/computing/jobs/{id}/why", why, methods=["GET"]),
]

"""A job as the jobs API shows it: whole (S18), and short in lists (S20)."""

from typing import Any

from cluster.errors import ClusterError
from ledger.client import credits_text, job_id
from serve_app.context import ServeContext
from serve_app.job import prompt_of, system_of
from serve_app.store.answers import told_of
from serve_app.store.records import WIRE_STATES, JobHead, JobRecord


def short_row(job: JobHead) -> dict[str, Any]:
    """Write a job for a list."""
    return {
        "id": job_id(job.id),
        "status": WIRE_STATES[job.state],
        "prompt": job.prompt,
        "model": job.model,
        "cost": None if job.cost is None else credits_text(job.cost),
        "created_at": job.created_at.isoformat(),
        "completed_at": job.ended_at.isoformat() if job.ended_at else None,
    }


def whole_row(context: ServeContext, record: JobRecord) -> dict[str, Any]:
    """Write a job with all that its owner may know."""
    return job_row(record, _node(context, record.node) if record.node else None) | {"system": system_of(record.request)}


def job_row(record: JobRecord, node: dict[str, Any] | None) -> dict[str, Any]:
    """Write a job as its row tells it, and the node as somebody else knows it."""
    has_usage = record.prompt_tokens is not None
    return {
        "id": job_id(record.id),
        "status": WIRE_STATES[record.state],
        "result": _result(record),
        "prompt": prompt_of(record.request),
        "model": record.model,
        "cost": None if record.cost is None else credits_text(record.cost),
        "held": credits_text(record.held),
        "created_at": record.created_at.isoformat(),
        "started_at": record.started_at.isoformat() if record.started_at else None,
        "completed_at": record.ended_at.isoformat() if record.ended_at else None,
        "node": node,
        "usage": {"prompt_tokens": record.prompt_tokens, "completion_tokens": record.completion_tokens} if has_usage else None,
        "attempts": record.attempt,
        "incomplete": record.is_incomplete,
    }


def _node(context: ServeContext, id_: str) -> dict[str, Any]:
    fact = context.feed.nodes.get(id_)
    try:
        node = context.view.snapshot.nodes.get(id_)
    except ClusterError:
        node = None
    name = (node.name if node else "") or (fact.name if fact else "") or id_
    return {"id": id_, "name": name, "provider": fact.username or None if fact else None}


def _result(record: JobRecord) -> dict[str, str] | None:
    if not record.has_ended:
        return None
    result = {}
    if record.result is not None:
        result["output"] = "".join(text.content for text in told_of(record.result, record.marks))
    if record.error:
        result["error"] = record.error
    return result or None

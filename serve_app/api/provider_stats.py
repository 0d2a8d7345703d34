"""`GET /api/computing/provider-stats/?days=` (L5): what the caller's nodes did. What they earned is the ledger's to tell."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from serve_app.api.answering_json import both, require_caller
from serve_app.api.queries import whole
from serve_app.context import ServeContext
from serve_app.feed import GONE
from serve_app.store.counts import ServedModel, ServedNode

USUAL_DAYS, MOST_DAYS = 30, 365
MOST_MODELS = 100
MOST_NODES = 100


async def provider_stats(request: Request, context: ServeContext) -> Any:
    """Tell how many jobs ended on the caller's nodes, and how."""
    caller = await require_caller(request, context, "nodes:read")
    days = whole(request, "days", USUAL_DAYS, 1, MOST_DAYS)
    own = context.feed.owned_by(caller.user)
    here = context.view.snapshot.nodes
    rows = await context.counts.served(own.keys(), days)
    by_node = await context.counts.served_by_node(own.keys(), days)
    return {
        "days": days,
        **_figures(rows),
        "nodes": {
            "total": sum(fact.state != GONE for fact in own.values()),
            "online": sum(id_ in here and here[id_].is_healthy for id_ in own),
        },
        "by_model": [{"model": row.model, **_figures([row])} for row in rows[:MOST_MODELS]],
        "by_node": [
            node_figures(id_, own[id_].name, row)
            for id_, row in sorted(by_node.items(), key=lambda one: (-one[1].served, one[0]))[:MOST_NODES]
        ],
    }


def node_figures(id_: str, name: str, row: ServedNode) -> dict[str, Any]:
    """Write what a node did. An attempt that broke counts against it also where another node took the job over."""
    decided = row.completed + row.broken
    return {
        "node_id": id_,
        "name": name,
        "jobs": row.served,
        "attempts": decided + row.canceled,
        "broken": row.broken,
        "success_rate": round(row.completed / decided, 4) if decided else None,
        "completion_tokens": row.completion_tokens,
    }


def _figures(rows: Sequence[ServedModel]) -> dict[str, Any]:
    """Sum up. Jobs are those that are paid for; a job that its consumer canceled says nothing of success."""
    completed, failed = sum(row.completed for row in rows), sum(row.failed for row in rows)
    return {
        "jobs": sum(row.served for row in rows),
        "completed": completed,
        "failed": failed,
        "canceled": sum(row.canceled for row in rows),
        "success_rate": round(completed / (completed + failed), 4) if completed + failed else None,
        "completion_tokens": sum(row.completion_tokens for row in rows),
    }


ROUTES = both("/api/computing/provider-stats/", provider_stats)

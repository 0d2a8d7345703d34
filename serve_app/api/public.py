"""What everybody may know: the models that are offered (L2) and four figures (L3). Made every few seconds for all; no node is named."""

from typing import Any

from starlette.requests import Request

from cluster.nodes import Node
from serve_app.api.answering_json import both
from serve_app.api.submitting import price_row
from serve_app.context import ServeContext
from serve_app.problems import PlainJSON

KEPT_S = 5
MOST_MODELS = 500
MOST_PROVIDERS = 50  # named per model
HEADERS = {"Cache-Control": f"public, max-age={KEPT_S}"}


async def models(request: Request, context: ServeContext) -> Any:
    """`GET /api/computing/models/`."""

    async def make() -> dict[str, Any]:
        offered = _offered(context)
        names = sorted(offered.keys() | context.feed.catalog.digests.keys())
        rows = [_model_row(context, name, offered.get(name, [])) for name in names[:MOST_MODELS]]
        return {"models": rows, "total_nodes": len({node.id for nodes in offered.values() for node in nodes})}

    return PlainJSON(await context.kept.get("models", KEPT_S, make), headers=HEADERS)


async def stats(request: Request, context: ServeContext) -> Any:
    """`GET /api/computing/stats/`."""

    async def make() -> dict[str, Any]:
        totals, offered = await context.counts.totals(), _offered(context)
        return {
            "active_nodes": sum(_is_active(context, node) for node in context.view.snapshot.nodes.values()),
            "total_jobs": totals.jobs,
            "completed_jobs": totals.completed,
            "available_models": len(offered),
        }

    return PlainJSON(await context.kept.get("stats", KEPT_S, make), headers=HEADERS)


def _is_active(context: ServeContext, node: Node) -> bool:
    """Tell whether a node takes jobs of anybody now."""
    return node.is_healthy and not node.is_draining and context.feed.is_open(node.id)


def _offered(context: ServeContext) -> dict[str, list[Node]]:
    """List the models that may be offered, and the nodes that take jobs for each."""
    offered: dict[str, list[Node]] = {}
    for node in context.view.snapshot.nodes.values():
        if _is_active(context, node):
            for model in node.models:
                if model.fits and model.is_admitted and context.feed.catalog.offers(model.name, model.digest):
                    offered.setdefault(model.name, []).append(node)
    return offered


def _model_row(context: ServeContext, name: str, nodes: list[Node]) -> dict[str, Any]:
    facts = [fact for node in nodes if (fact := context.feed.nodes.get(node.id))]
    offers = context.view.snapshot.index.offers(name)
    return {
        "name": name,
        "providers": sorted({fact.username for fact in facts if fact.username})[:MOST_PROVIDERS],
        "nodes": len(nodes),
        "online": bool(nodes),
        "context_tokens": max((offers[node.id].context_tokens for node in nodes), default=None),
        "price": price_row(context.feed.price_of(name)),
    }


ROUTES = [*both("/api/computing/models/", models), *both("/api/computing/stats/", stats)]

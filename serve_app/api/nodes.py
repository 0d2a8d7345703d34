"""Nodes as people see them: `/api/computing/nodes/` for their owners, `/api/admin/nodes/` for operators."""

import time
from functools import partial
from typing import Any

from starlette.requests import Request

from cluster.nodes import Gpu, Node, NodeKind, OfferedModel
from serve_app.api.answering_json import both, require_caller
from serve_app.api.provider_stats import USUAL_DAYS, node_figures
from serve_app.api.queries import cursor_of, cursor_to, page_size
from serve_app.auth import credential_of
from serve_app.context import ServeContext
from serve_app.errors import UnknownNode
from serve_app.feed import GONE, NodeFact
from serve_app.store.counts import ServedNode
from serve_app.why_no_jobs import why_models, why_no_jobs


async def list_own(request: Request, context: ServeContext) -> Any:
    """`GET /api/computing/nodes/`: the caller's own nodes, and how each is now (S42)."""
    caller = await require_caller(request, context, "nodes:read")
    limit, after = page_size(request), cursor_of(request)
    own = sorted((fact.name, id_) for id_, fact in context.feed.owned_by(caller.user).items() if fact.state != GONE)
    left = [one for one in own if after is None or one > after]
    page, is_last = left[:limit], len(left) <= limit
    here = context.view.snapshot.nodes
    return {
        "results": [_row(context, here.get(id_) or _absent(id_, context.feed.nodes[id_])) for _, id_ in page],
        "next": None if is_last else cursor_to(*page[-1]),
    }


async def why(request: Request, context: ServeContext) -> Any:
    """`GET /api/computing/nodes/<id>/why/`: why a node of the caller's gets no jobs; another's is as unknown as none."""
    caller = await require_caller(request, context, "nodes:read")
    wanted = str(request.path_params["id"])
    own = {id_: fact for id_, fact in context.feed.owned_by(caller.user).items() if fact.state != GONE}
    id_ = wanted if wanted in own else next((id_ for id_, fact in own.items() if fact.name == wanted), None)
    if id_ is None:
        raise UnknownNode(wanted)
    fact, snapshot = own[id_], context.view.snapshot
    found = why_no_jobs(snapshot.nodes.get(id_), fact, is_broken=id_ in context.breakers.open(time.monotonic()))
    models = why_models(id_, snapshot, context.feed.catalog, partial(context.feed.admission, id_))
    done = (await context.counts.served_by_node([id_], USUAL_DAYS)).get(id_) or ServedNode(id_, 0, 0, 0, 0, 0)
    return {
        "node_id": id_,
        "name": fact.name,
        "takes_jobs": not found and any(model["offered"] for model in models),
        "reasons": found,
        "models": models,
        "done": node_figures(id_, fact.name, done),
    }


def _absent(id_: str, fact: NodeFact) -> Node:
    """Describe a node that is not here now."""
    return Node(
        id=id_, name=fact.name, kind=NodeKind(fact.kind), url="", slots=0, running=0, models=(), is_healthy=False, reason="it is not connected"
    )  # fmt: skip


async def list_all(request: Request, context: ServeContext) -> Any:
    """`GET /api/admin/nodes/`."""
    await require_operator(request, context)
    return {"results": [_row(context, node) for node in _by_name(context)]}


async def show(request: Request, context: ServeContext) -> Any:
    """`GET /api/admin/nodes/<id>/`."""
    await require_operator(request, context)
    return _row(context, node_of(request, context))


async def drain(request: Request, context: ServeContext) -> Any:
    """`POST /api/admin/nodes/<id>/drain/`: it takes no new jobs, and finishes those that run."""
    await require_operator(request, context)
    node = node_of(request, context)
    await context.nodes.drain(node.url, node.id)
    return _row(context, node) | {"draining": True}


async def resume(request: Request, context: ServeContext) -> Any:
    """`POST /api/admin/nodes/<id>/resume/`: it takes jobs again."""
    await require_operator(request, context)
    node = node_of(request, context)
    await context.nodes.resume(node.url, node.id)
    return _row(context, node) | {"draining": False}


async def require_operator(request: Request, context: ServeContext) -> None:
    """Let an operator pass who signed in, or `gfe` on the platform's own machine, which can read its secrets."""
    credential = credential_of(request.headers.get("authorization"))
    if not context.callers.is_own_machine(credential):
        await context.callers.require(credential, "operator")


def node_of(request: Request, context: ServeContext) -> Node:
    """Find the node that the path names, by id or name.

    Raises:
        UnknownNode: It is not here.
    """
    wanted = str(request.path_params["id"])
    nodes = context.view.snapshot.nodes
    found = nodes.get(wanted) or next((node for node in nodes.values() if node.name == wanted), None)
    if found is None:
        raise UnknownNode(wanted)
    return found


def _by_name(context: ServeContext) -> list[Node]:
    return sorted(context.view.snapshot.nodes.values(), key=lambda node: (node.name, node.id))


def _row(context: ServeContext, node: Node) -> dict[str, Any]:
    fact = context.feed.nodes.get(node.id)
    return {
        "id": node.id,
        "name": node.name,
        "kind": node.kind.value,
        "provider": fact.username or None if fact else None,
        "owner": fact.owner if fact else None,
        "state": fact.state if fact else None,
        "online": bool(node.url),
        "healthy": node.is_healthy,
        "draining": node.is_draining,
        "reason": node.reason,
        "zone": node.zone,
        "operation": node.operation,
        "slots": node.slots,
        "running": node.running,
        "runtime": node.runtime,
        "gpus": [_gpu(gpu) for gpu in node.gpus],
        "models": [_model(model) for model in node.models],
    }


def _gpu(gpu: Gpu) -> dict[str, Any]:
    return {
        "name": gpu.name, "uuid": gpu.uuid, "memory_bytes": gpu.total_bytes, "free_bytes": gpu.free_bytes if gpu.is_measured else None,
        "driver": gpu.driver, "mig": gpu.mig, "part_of": gpu.part_of,
        "utilization_percent": gpu.utilization_percent, "temperature_c": gpu.temperature_c,
    }  # fmt: skip


def _model(model: OfferedModel) -> dict[str, Any]:
    return {
        "name": model.name, "digest": model.digest, "size_bytes": model.size_bytes, "context_tokens": model.context_tokens, "loaded": model.is_loaded,
        "tokens_per_s": model.tokens_per_s, "first_token_s": model.first_token_s, "first_token_p99_s": model.first_token_p99_s, "job_s": model.job_s,
        "needed_bytes": model.needed_bytes, "took_bytes": model.took_bytes, "gpu_bytes": model.gpu_bytes, "fits": model.fits,
        "trouble": model.trouble,
    }  # fmt: skip


ROUTES = [
    *both("/api/computing/nodes/", list_own),
    *both("/api/computing/nodes/{id}/why/", why),
    *both("/api/admin/nodes/", list_all),
    *both("/api/admin/nodes/{id}/", show),
    *both("/api/admin/nodes/{id}/drain/", drain, "POST"),
    *both("/api/admin/nodes/{id}/resume/", resume, "POST"),
]

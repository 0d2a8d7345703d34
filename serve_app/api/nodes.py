"""Nodes as people see them: `/api/computing/nodes/` for their owners, `/api/admin/nodes/` for operators."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cluster.errors import ClusterError
from cluster.nodes import Gpu, Node, OfferedModel
from ledger.client import LedgerError
from serve_app.auth import credential_of
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.errors import ServeError, UnknownNode
from serve_app.problems import as_problem_json

Handler = Callable[[Request, ServeContext], Awaitable[Any]]


def _answering(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            said = await handler(request, request.app.state.context)
        except (ServeError, LedgerError, ClusterError, DatabaseUnavailable) as error:
            return as_problem_json(error)
        return JSONResponse(said, headers={"Cache-Control": "no-store"})

    return answer


async def list_own(request: Request, context: ServeContext) -> Any:
    """`GET /api/computing/nodes/`: the caller's own nodes that are here now."""
    caller = await context.callers.require(credential_of(request.headers.get("authorization")), "nodes:read")
    facts = context.feed.nodes
    nodes = _by_name(context)
    return {"results": [_row(context, node) for node in nodes if (fact := facts.get(node.id)) and fact.owner == caller.user]}


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
        "owner": fact.owner if fact else None,
        "state": fact.state if fact else None,
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


def _both(path: str, handler: Handler, method: str = "GET") -> list[Route]:
    return [Route(one, _answering(handler), methods=[method]) for one in (path, path.rstrip("/"))]


ROUTES = [
    *_both("/api/computing/nodes/", list_own),
    *_both("/api/admin/nodes/", list_all),
    *_both("/api/admin/nodes/{id}/", show),
    *_both("/api/admin/nodes/{id}/drain/", drain, "POST"),
    *_both("/api/admin/nodes/{id}/resume/", resume, "POST"),
]

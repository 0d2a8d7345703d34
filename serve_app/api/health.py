"""`/healthz`: this replica lives. `/readyz`: it can serve, part by part."""

import asyncio
from collections.abc import Awaitable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cluster.errors import ClusterUnreachable
from ledger.client import LedgerError
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable

CHECK_LIMIT_S = 2.5
OK = "ok"


async def healthz(request: Request) -> Response:
    """Alive."""
    return JSONResponse({"status": OK})


async def readiness(context: ServeContext) -> dict[str, str]:
    """Tell per part whether it is ready: `ok`, or what is wrong."""
    database, ledger = await asyncio.gather(_answered(context.store.ping()), _answered(context.ledger.find_holds(86_400, 1)))
    try:
        nodes = context.view.snapshot.nodes.values()
        dispatcher = OK
    except ClusterUnreachable:
        nodes, dispatcher = (), "has not been heard for too long"  # type: ignore[assignment]
    able = [node for node in nodes if node.is_healthy and not node.is_draining and node.models]
    reasons = "; ".join(f"{node.id}: {node.reason}" for node in nodes) or "none has joined yet"
    return {"database": database, "ledger": ledger, "dispatcher": dispatcher, "nodes": OK if able else reasons}


async def _answered(call: Awaitable[object]) -> str:
    try:
        async with asyncio.timeout(CHECK_LIMIT_S):
            await call
    except (LedgerError, DatabaseUnavailable, TimeoutError) as failed:
        return str(failed) or "did not answer in time"
    return OK


async def readyz(request: Request) -> Response:
    """Ready: every part is."""
    checks = await readiness(request.app.state.context)
    is_ready = all(said == OK for said in checks.values())
    return JSONResponse({"status": OK if is_ready else "unavailable", "checks": checks}, 200 if is_ready else 503)


ROUTES = [Route("/healthz", healthz), Route("/readyz", readyz)]

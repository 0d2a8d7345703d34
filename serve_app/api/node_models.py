"""`POST /api/admin/nodes/<id>/models/`: operators load, unload and pull models on a node, and see how far it is."""

import json
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from cluster.errors import ClusterError, InvalidRequest
from cluster.operation_wire import asked_operation, refusal_line
from serve_app.api.nodes import node_of, require_operator
from serve_app.context import ServeContext
from serve_app.errors import TooLarge
from serve_app.problems import KNOWN_ERRORS, as_problem_json

MAX_BODY_BYTES = 4096


async def operate(request: Request) -> Response:
    """Ask the node; a line per step, at least every two seconds, the last one with `success` or `error`."""
    context: ServeContext = request.app.state.context
    try:
        await require_operator(request, context)
        node = node_of(request, context)
        asked = await _asked(request)
        context.feed.catalog.require(asked["action"], asked["model"])
        steps = context.nodes.operate(node.url, node.id, asked)
        first = await anext(steps)  # a refusal before anything began is an error of the call
    except KNOWN_ERRORS as error:
        return as_problem_json(error)
    return StreamingResponse(_lines(first, steps), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})


async def _asked(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(MAX_BODY_BYTES)
    try:
        action, model, is_forced = asked_operation(json.loads(bytes(body)))
    except ValueError as wrong:
        raise InvalidRequest(str(wrong)) from wrong
    return {"action": action.value, "model": model, "force": is_forced}


async def _lines(first: dict[str, Any], steps: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[bytes, None]:
    try:
        yield json.dumps(first).encode() + b"\n"
        async for step in steps:
            yield json.dumps(step).encode() + b"\n"
    except ClusterError as failed:
        yield refusal_line(failed)
    finally:
        await steps.aclose()


ROUTES = [Route(path, operate, methods=["POST"]) for path in ("/api/admin/nodes/{id}/models/", "/api/admin/nodes/{id}/models")]

"""Reads request bodies: bounded while reading, JSON whatever the Content-Type says."""

import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from cluster.errors import InvalidRequest
from serve_app.errors import TooLarge

MAX_BODY_BYTES = 8 * 1024 * 1024  # images come as text; prompts have a limit of their own
MAX_DEPTH = 32


async def read_json(request: Request) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        TooLarge: More than `MAX_BODY_BYTES` came.
        InvalidRequest: It is not a JSON object.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise TooLarge(MAX_BODY_BYTES)
    except ClientDisconnect as gone:
        raise InvalidRequest("The body is incomplete.") from gone
    if not body:
        raise InvalidRequest("missing request body")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as wrong:
        raise InvalidRequest(f"The body is not valid JSON: {wrong}") from wrong
    if not isinstance(said, dict):
        raise InvalidRequest("The body must be a JSON object.")
    if depth_of(said) > MAX_DEPTH:
        raise InvalidRequest(f"The body is nested more than {MAX_DEPTH} levels deep.")
    return said


def depth_of(value: Any) -> int:
    """How deep a value is nested, without recursion; stops counting beyond `MAX_DEPTH`."""
    depth, layer = 0, [value]
    while layer and depth <= MAX_DEPTH:
        nested = [one for one in layer if isinstance(one, dict | list)]
        if not nested:
            return depth
        depth += 1
        layer = [inner for one in nested for inner in (one.values() if isinstance(one, dict) else one)]
    return depth

"""Reads request bodies: bounded while reading, JSON whatever the Content-Type says, each field checked with its name."""

import json
import math
from typing import Any

from starlette.requests import ClientDisconnect, Request

from serve_app.errors import InvalidRequest, TooLarge

MAX_BODY_BYTES = 1024 * 1024
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
        raise InvalidRequest("The request has no body. Send a JSON object.")
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


class Fields:
    """The fields of a body: each is asked for by name and type; null means absent."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body

    def text(self, name: str) -> str | None:
        """A string."""
        value = self.body.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidRequest(f"`{name}` must be a string.", name)
        return value

    def flag(self, name: str) -> bool:
        """A boolean, false when absent."""
        value = self.body.get(name)
        if value is not None and not isinstance(value, bool):
            raise InvalidRequest(f"`{name}` must be true or false.", name)
        return bool(value)

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number within bounds."""
        value = self.body.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
            raise InvalidRequest(f"`{name}` must be a number from {low:g} to {high:g}.", name)
        return value

    def whole(self, name: str, low: int, high: int) -> int | None:
        """A whole number within bounds."""
        value = self.body.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidRequest(f"`{name}` must be a whole number from {low} to {high}.", name)
        return value

    def mapping(self, name: str) -> dict[str, Any] | None:
        """An object."""
        value = self.body.get(name)
        if value is not None and not isinstance(value, dict):
            raise InvalidRequest(f"`{name}` must be an object.", name)
        return value

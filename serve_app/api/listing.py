"""Lists as OpenAI pages them: `limit`, `after` (the last id of the page before), `has_more`."""

import uuid
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from cluster.errors import InvalidRequest
from ledger.client import uuid_of

USUAL, MOST = 20, 100


def limit_of(request: Request) -> int:
    """Read how many are wanted.

    Raises:
        InvalidRequest: It is not a number within bounds.
    """
    text = request.query_params.get("limit", str(USUAL))
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InvalidRequest("`limit` must be a whole number.", "limit")
    return max(1, min(MOST, int(text)))


def after_of(request: Request, prefix: str) -> uuid.UUID | None:
    """Read after which one the page begins.

    Raises:
        InvalidRequest: It is no such id.
    """
    text = request.query_params.get("after")
    try:
        return uuid_of(prefix, text) if text else None
    except ValueError as wrong:
        raise InvalidRequest(f"`after` must be an id that begins with `{prefix}_`.", "after") from wrong


def page_of(rows: Sequence[dict[str, Any]], limit: int) -> dict[str, Any]:
    """Write a page of rows of which one more than the limit was asked for."""
    shown = list(rows[:limit])
    ends = {"first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None}
    return {"object": "list", "data": shown, **ends, "has_more": len(rows) > limit}

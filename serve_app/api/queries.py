"""Reads what stands in a URL's query: whole numbers within bounds, and where a page begins."""

import base64
import json
import uuid
from datetime import datetime

from starlette.requests import Request

from cluster.errors import InvalidRequest
from serve_app.store.pages import Place

MAX_PAGE, USUAL_PAGE = 100, 20
MAX_DIGITS = 9
MAX_CURSOR = 500


def whole(request: Request, name: str, usual: int, low: int, high: int) -> int:
    """Read a whole number.

    Raises:
        InvalidRequest: It is none, or out of bounds.
    """
    text = request.query_params.get(name)
    if text is None:
        return usual
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS and low <= int(text) <= high):
        raise InvalidRequest(f"`{name}` must be a whole number from {low} to {high}.", name)
    return int(text)


def page_size(request: Request) -> int:
    """Read `limit`."""
    return whole(request, "limit", USUAL_PAGE, 1, MAX_PAGE)


def place_of(request: Request) -> Place | None:
    """Read where a page of jobs begins; None: at the newest one.

    Raises:
        InvalidRequest: The cursor is not one of ours.
    """
    said = cursor_of(request)
    if said is None:
        return None
    try:
        moment, id_ = datetime.fromisoformat(said[0]), uuid.UUID(said[1])
        if moment.tzinfo is None:
            raise ValueError
    except (ValueError, OverflowError) as wrong:
        raise _not_ours() from wrong
    return Place(moment, id_)


def cursor_of(request: Request) -> tuple[str, str] | None:
    """Read `cursor`: what the last row of the page before is known by; None where there is none.

    Raises:
        InvalidRequest: It is not one of ours.
    """
    text = request.query_params.get("cursor")
    if text is None:
        return None
    try:
        if len(text) > MAX_CURSOR:
            raise ValueError
        first, second = json.loads(base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)))
    except (ValueError, TypeError, RecursionError) as wrong:
        raise _not_ours() from wrong
    if not (isinstance(first, str) and isinstance(second, str)):
        raise _not_ours()
    return first, second


def cursor_to(first: str, second: str) -> str:
    """Write a cursor: opaque to clients, plain JSON inside."""
    return base64.urlsafe_b64encode(json.dumps([first, second], separators=(",", ":")).encode()).decode().rstrip("=")


def _not_ours() -> InvalidRequest:
    return InvalidRequest("This cursor is not one of ours; start again without it.", "cursor")

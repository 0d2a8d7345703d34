"""Cursors of pages: opaque to clients, plain JSON inside."""

import base64
import json
import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import Query

from ledger.errors import InvalidRequest
from ledger.money.statements import START, Position

MAX_PAGE = 100
MIN_ACCOUNTS, MAX_ACCOUNTS = 3, 1000  # of one person, in a cursor of the log: two pockets, earnings, an escrow per node
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Rows per page.")]
Cursor = Annotated[str | None, Query(max_length=8000, description="`next` of the page before.")]
Mark = tuple[datetime, str]


def write_position(position: Position | None) -> str | None:
    """Write where a page of the log ended."""
    return None if position is None else _write([list(position.seqs), position.after.hex if position.after else None])


def read_position(text: str | None) -> Position:
    """Read where a page of the log begins.

    Raises:
        InvalidRequest: It is not a cursor of ours.
    """
    if text is None:
        return START
    try:
        seqs, after = _read(text)
        if not MIN_ACCOUNTS <= len(seqs) <= MAX_ACCOUNTS or not all(type(seq) is int and 0 <= seq < 2**63 for seq in seqs):
            raise ValueError
        return Position(seqs=tuple(seqs), after=uuid.UUID(after) if after else None)
    except (ValueError, TypeError, AttributeError) as wrong:
        raise _refusal() from wrong


def write_mark(mark: Mark | None) -> str | None:
    """Write where a page of rows with a time and an id ended."""
    return None if mark is None else _write([mark[0].isoformat(), mark[1]])


def read_mark(text: str | None) -> Mark | None:
    """Read where a page of rows with a time and an id begins.

    Raises:
        InvalidRequest: It is not a cursor of ours.
    """
    if text is None:
        return None
    try:
        at, id_ = _read(text)
        moment = datetime.fromisoformat(at)
        if type(id_) is not str or "\0" in id_ or moment.tzinfo is None:
            raise ValueError
        return moment, id_
    except (ValueError, TypeError, AttributeError) as wrong:
        raise _refusal() from wrong


def _write(value: list[object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


def _read(text: str) -> tuple[Any, Any]:
    first, second = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return first, second


def _refusal() -> InvalidRequest:
    return InvalidRequest("cursor", "This cursor is not one of ours; start again without it.")

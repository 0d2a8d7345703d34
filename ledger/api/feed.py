"""The internal route of the change feed, polled by replicas and the edge gateway."""

from starlette.requests import Request
from starlette.responses import Response

from ledger.context import LedgerContext
from ledger.db import DatabaseUnavailable
from ledger.errors import InvalidRequest, LedgerError, NotPermitted
from ledger.identity.feed import MAX_ENTRIES
from ledger.problems import problem_of
from ledger.wire import FEED

READERS = frozenset({"serve", "edge"})


async def read_feed(request: Request) -> Response:
    """`GET /internal/v1/feed?after=<seq>&limit=`; without `after` the whole state."""
    context: LedgerContext = request.app.state.context
    try:
        if context.services.verify(request.headers.get("authorization")) not in READERS:
            raise NotPermitted("feed")
        after = _number(request, "after", 0, 2**63 - 1)
        limit = _number(request, "limit", 1, MAX_ENTRIES)
        page = await context.feed.read(after, limit or MAX_ENTRIES)
    except (LedgerError, DatabaseUnavailable) as refused:
        return problem_of(refused)
    return Response(FEED.dump_json(page), media_type="application/json")


def _number(request: Request, name: str, least: int, most: int) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
        raise InvalidRequest(name, f"A whole number from {least} to {most} is required.")
    return int(text)

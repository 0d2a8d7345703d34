"""How the routes below `/api/` answer: JSON that nobody keeps, errors as problem+json, each path with and without its last slash."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from starlette.requests import Request
from starlette.routing import Route

from ledger.client import Caller
from serve_app.auth import credential_of
from serve_app.context import ServeContext
from serve_app.problems import KNOWN_ERRORS, PlainJSON, as_problem_json

log = structlog.get_logger()
NOT_KEPT = {"Cache-Control": "no-store"}
Handler = Callable[[Request, ServeContext], Awaitable[Any]]


def answering(handler: Handler) -> Callable[[Request], Awaitable[Any]]:
    """Answer what a handler says, as JSON unless it is an answer already; what nobody expected is logged once and answered 500."""

    async def answer(request: Request) -> Any:
        try:
            said = await handler(request, request.app.state.context)
        except KNOWN_ERRORS as error:
            return as_problem_json(error)
        except Exception as error:
            log.exception("request_failed", path=request.url.path)
            return as_problem_json(error)
        return PlainJSON(said, headers=NOT_KEPT) if isinstance(said, dict) else said

    return answer


def both(path: str, handler: Handler, method: str = "GET") -> list[Route]:
    """Route a path, with its slash and without, to the same handler: a redirect would break a POST behind a TLS proxy."""
    return [Route(one, answering(handler), methods=[method]) for one in (path, path.rstrip("/"))]


async def require_caller(request: Request, context: ServeContext, scope: str) -> Caller:
    """Tell who calls.

    Raises:
        NotAuthenticated: There is no credential, or nobody knows it.
        NotPermitted: It lacks the scope.
        LedgerUnavailable: The ledger does not answer.
    """
    return await context.callers.require(credential_of(request.headers.get("authorization")), scope)

"""How routes are declared: the seed's spelling with a slash at the end, and the one without served by the same handler."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.responses import Response

from ledger.api.shapes import Problem

Handler = TypeVar("Handler", bound=Callable[..., Any])
SAYS = {
    400: "a field is wrong", 401: "no credential, a mistyped one, a revoked one", 402: "the account cannot pay", 403: "the credential may not do this",
    404: "there is none, or it is not yours", 409: "not in this state", 413: "the body is too large", 422: "the Idempotency-Key was used for another request",
    429: "a limit is reached; see Retry-After", 503: "the database does not answer; see Retry-After",
}  # fmt: skip


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe errors for the OpenAPI document."""
    return {status: {"model": Problem, "description": SAYS[status]} for status in statuses}


REFUSALS = refusals(400, 401, 403, 503)


def both(
    router: APIRouter, method: str, path: str, *, id: str, status: int = 200, model: Any = None, refusals: Sequence[int] = (400, 401, 403, 503), public: bool = False  # noqa: A002 - OpenAPI's word
) -> Callable[[Handler], Handler]:  # fmt: skip
    """Declare a handler for `path` and for the same without its last slash. `public`: anybody may call it; every other route names a scope."""

    def declare(handler: Handler) -> Handler:
        common: dict[str, Any] = {"methods": [method], "status_code": status}
        if model is not None:
            common["response_model"] = model
        if status in {202, 204}:
            common["response_class"] = Response
        described = _described(refusals, public=public)
        tags: list[Any] = ["public"] if public else []
        router.add_api_route(path, handler, operation_id=id, responses=described, tags=tags, **common)
        router.add_api_route(path.rstrip("/"), handler, include_in_schema=False, tags=tags, **common)
        return handler

    return declare


def _described(statuses: Sequence[int], *, public: bool) -> dict[int | str, dict[str, Any]]:
    return refusals(*sorted({*statuses, 400, 413, 503} | (set() if public else {401, 403})))


def moment(at: datetime) -> str:
    """Write a time."""
    return at.astimezone(UTC).isoformat()

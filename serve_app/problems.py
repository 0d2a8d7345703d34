"""THE table: which error gets which status and code. Rendered as problem+json or in OpenAI's shape, by router."""

from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse, Response

from cluster.errors import (
    ClusterError,
    ClusterUnreachable,
    JobTimedOut,
    ModelUnavailable,
    NoCapacity,
    NodeLost,
    OperationRefused,
    PoisonRequest,
    RuntimeFailed,
    RuntimeRefused,
    TooManyFailures,
)
from ledger.client import (
    BudgetExceeded,
    HoldNotOpen,
    IdempotencyConflict,
    InsufficientFunds,
    LedgerError,
    LedgerUnavailable,
    NotAuthenticated,
    NotPermitted,
    RateLimited,
    credits_text,
)
from serve_app.db import DatabaseUnavailable
from serve_app.errors import (
    DeliveryBroken,
    InvalidRequest,
    NotYourJob,
    ServeError,
    StoreUnavailable,
    TooLarge,
    TooManyWebhooks,
    UnknownJob,
    UnknownNode,
    UnknownWebhook,
    WebhookDisabled,
    WebhookExists,
)

Known = LedgerError | ClusterError | ServeError | DatabaseUnavailable

# class -> status, code (None: the error's own), OpenAI's type
TABLE: dict[type[Exception], tuple[int, str | None, str]] = {
    NotAuthenticated: (401, None, "invalid_request_error"),
    InsufficientFunds: (402, None, "insufficient_quota"),
    BudgetExceeded: (402, None, "insufficient_quota"),
    NotPermitted: (403, None, "invalid_request_error"),
    NotYourJob: (403, "not_permitted", "invalid_request_error"),
    UnknownJob: (404, "not_found", "not_found_error"),
    UnknownNode: (404, "not_found", "not_found_error"),
    UnknownWebhook: (404, "not_found", "not_found_error"),
    ModelUnavailable: (404, "model_not_found", "not_found_error"),
    OperationRefused: (409, "model_operation_refused", "invalid_request_error"),
    WebhookExists: (409, "webhook_exists", "invalid_request_error"),
    TooManyWebhooks: (409, "too_many_webhooks", "invalid_request_error"),
    WebhookDisabled: (409, "webhook_disabled", "invalid_request_error"),
    HoldNotOpen: (409, None, "invalid_request_error"),
    TooLarge: (413, "too_large", "invalid_request_error"),
    IdempotencyConflict: (422, None, "invalid_request_error"),
    InvalidRequest: (400, "invalid_request", "invalid_request_error"),
    RuntimeRefused: (400, "invalid_request", "invalid_request_error"),
    PoisonRequest: (400, "poison_request", "invalid_request_error"),
    RateLimited: (429, None, "rate_limit_error"),
    NoCapacity: (429, "no_capacity", "rate_limit_error"),
    RuntimeFailed: (502, "runtime_failed", "api_error"),
    NodeLost: (502, "node_lost", "api_error"),
    DeliveryBroken: (502, "incomplete", "api_error"),
    JobTimedOut: (504, "timed_out", "api_error"),
    LedgerUnavailable: (503, None, "api_error"),
    TooManyFailures: (503, "too_many_failures", "api_error"),
    ClusterUnreachable: (503, "cluster_unreachable", "api_error"),
    StoreUnavailable: (503, "database_unavailable", "api_error"),
    DatabaseUnavailable: (503, "database_unavailable", "api_error"),
}
TITLES = {
    400: "Invalid request", 401: "Not authenticated", 402: "Insufficient funds", 403: "Not permitted", 404: "Not found", 405: "Method not allowed",
    409: "Conflict", 413: "Too large", 422: "Idempotency conflict", 429: "Too many requests", 500: "Internal error", 502: "Bad gateway",
    503: "Unavailable", 504: "Timed out",
}  # fmt: skip
DATABASE_RETRY_S = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as the outside sees it."""

    status: int
    code: str
    openai_type: str
    detail: str
    param: str | None
    more: dict[str, Any]

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the status."""
        found = {"Cache-Control": "no-store"}
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        if "retry_after_s" in self.more:
            found["Retry-After"] = str(self.more["retry_after_s"])
        return found


def problem_of(error: Exception) -> Problem:
    """Look an error up by its class or the nearest parent; what is not in the table is our defect: 500."""
    row = next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), None)
    if row is None:
        return Problem(500, "internal_error", "api_error", "Something went wrong on our side.", None, {})
    status, code, openai_type = row
    more: dict[str, Any] = {}
    if isinstance(error, BudgetExceeded):
        more = {"period": error.period, "available": credits_text(error.left_micros), "required": credits_text(error.required_micros)}
    elif isinstance(error, InsufficientFunds):
        more = {"available": credits_text(error.available_micros), "required": credits_text(error.required_micros)}
    elif isinstance(error, OperationRefused):
        more = {"hint": error.hint}
    retry_after_s = getattr(error, "retry_after_s", DATABASE_RETRY_S if isinstance(error, DatabaseUnavailable) else None)
    if retry_after_s is not None:
        more["retry_after_s"] = retry_after_s
    return Problem(status, code or str(getattr(error, "code", "error")), openai_type, str(error), getattr(error, "param", None), more)


def as_problem_json(error: Exception) -> Response:
    """Render for `/api/` routes (RFC 9457, with the seed's `error` beside `detail`)."""
    problem = problem_of(error)
    body: dict[str, Any] = {
        "type": "about:blank", "title": TITLES[problem.status], "status": problem.status, "detail": problem.detail, "code": problem.code,
        "error": problem.detail, **problem.more,
    }  # fmt: skip
    if problem.param:
        body["errors"] = {problem.param: [problem.detail]}
    return JSONResponse(body, problem.status, problem.headers, media_type="application/problem+json")


def openai_error(error: Exception) -> dict[str, Any]:
    """Write an error in OpenAI's shape."""
    problem = problem_of(error)
    return {"error": {"message": problem.detail, "type": problem.openai_type, "param": problem.param, "code": problem.code, **problem.more}}


def as_openai(error: Exception) -> Response:
    """Render for `/v1/` routes."""
    problem = problem_of(error)
    return JSONResponse(openai_error(error), problem.status, problem.headers)

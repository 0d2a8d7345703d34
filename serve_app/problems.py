"""THE table: which error gets which status and code. Rendered as problem+json, or by a dialect, as the route wants it."""

import json
from typing import Any

from starlette.responses import JSONResponse, Response

from cluster.dialects.answer import Refusal
from cluster.errors import (
    ClusterError,
    ClusterUnreachable,
    InvalidRequest,
    JobTimedOut,
    ModelUnavailable,
    NobodyOnline,
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
    JobNotSettled,
    LedgerError,
    LedgerUnavailable,
    NotAuthenticated,
    NotPermitted,
    RateLimited,
    credits_text,
)
from serve_app.db import DatabaseUnavailable
from serve_app.errors import (
    AnswerCanceled,
    BatchOver,
    DeliveryBroken,
    FileInUse,
    JobEnded,
    JobFailed,
    NoRoom,
    NotYourJob,
    QueueFull,
    ServeError,
    StillRunning,
    StoreUnavailable,
    TooLarge,
    TooManyBatches,
    TooManyWebhooks,
    UnknownBatch,
    UnknownFile,
    UnknownJob,
    UnknownNode,
    UnknownRoute,
    UnknownWebhook,
    WebhookDisabled,
    WebhookExists,
    WrongMethod,
)

KNOWN_ERRORS = (ServeError, LedgerError, ClusterError, DatabaseUnavailable)  # what routes expect; the rest is our defect

CANCELED = 499  # as Google's APIs and nginx have it; OpenAI's and Anthropic's clients send what got a 409 or a 5xx again by themselves
# class -> status, code (None: the error's own), OpenAI's type
TABLE: dict[type[Exception], tuple[int, str | None, str]] = {
    NotAuthenticated: (401, None, "invalid_request_error"),
    InsufficientFunds: (402, None, "insufficient_quota"),
    BudgetExceeded: (402, None, "insufficient_quota"),
    NotPermitted: (403, None, "invalid_request_error"),
    NotYourJob: (403, "not_permitted", "invalid_request_error"),
    UnknownJob: (404, "not_found", "not_found_error"),
    UnknownNode: (404, "not_found", "not_found_error"),
    UnknownFile: (404, "not_found", "not_found_error"),
    UnknownBatch: (404, "not_found", "not_found_error"),
    UnknownRoute: (404, "not_found", "not_found_error"),
    UnknownWebhook: (404, "not_found", "not_found_error"),
    ModelUnavailable: (404, "model_not_found", "not_found_error"),
    NobodyOnline: (503, "nobody_online", "api_error"),
    OperationRefused: (409, "model_operation_refused", "invalid_request_error"),
    WrongMethod: (405, "method_not_allowed", "invalid_request_error"),
    JobEnded: (409, "job_ended", "invalid_request_error"),
    WebhookExists: (409, "webhook_exists", "invalid_request_error"),
    TooManyWebhooks: (409, "too_many_webhooks", "invalid_request_error"),
    WebhookDisabled: (409, "webhook_disabled", "invalid_request_error"),
    FileInUse: (409, "file_in_use", "invalid_request_error"),
    BatchOver: (409, "batch_over", "invalid_request_error"),
    HoldNotOpen: (409, None, "invalid_request_error"),
    JobNotSettled: (409, None, "invalid_request_error"),
    StillRunning: (409, "in_progress", "invalid_request_error"),
    AnswerCanceled: (CANCELED, "canceled", "api_error"),
    JobFailed: (502, "job_failed", "api_error"),
    TooLarge: (413, "too_large", "invalid_request_error"),
    NoRoom: (413, "no_room", "invalid_request_error"),
    TooManyBatches: (429, "too_many_batches", "rate_limit_error"),
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
    QueueFull: (503, "queue_full", "api_error"),
    StoreUnavailable: (503, "database_unavailable", "api_error"),
    DatabaseUnavailable: (503, "database_unavailable", "api_error"),
}
TITLES = {
    400: "Invalid request", 401: "Not authenticated", 402: "Insufficient funds", 403: "Not permitted", 404: "Not found", 405: "Method not allowed",
    409: "Conflict", 413: "Too large", 422: "Idempotency conflict", 429: "Too many requests", CANCELED: "Canceled", 500: "Internal error",
    502: "Bad gateway", 503: "Unavailable", 504: "Timed out",
}  # fmt: skip
DATABASE_RETRY_S = 2


def headers_of(refusal: Refusal) -> dict[str, str]:
    """Headers that go with an error."""
    found = {"Cache-Control": "no-store"}
    if refusal.status == 401:
        found["WWW-Authenticate"] = "Bearer"
    if "retry_after_s" in refusal.more:
        found["Retry-After"] = str(refusal.more["retry_after_s"])
    if "per_minute" in refusal.more:
        found |= {
            "RateLimit-Limit": str(refusal.more["per_minute"]), "RateLimit-Remaining": "0", "RateLimit-Reset": found.get("Retry-After", "60"),
        }  # fmt: skip
    return found


class PlainJSON(JSONResponse):
    """JSON in ASCII: what a client wrote may hold halves of characters, which UTF-8 cannot."""

    def render(self, content: Any) -> bytes:
        """Write it."""
        return json.dumps(content, separators=(",", ":")).encode()


def problem_of(error: Exception) -> Refusal:
    """Look an error up by its class or the nearest parent; what is not in the table is our defect: 500."""
    row = next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), None)
    if row is None:
        return Refusal(500, "internal_error", "api_error", "Something went wrong on our side.", None, {})
    status, code, openai_type = row
    more: dict[str, Any] = {}
    if isinstance(error, BudgetExceeded):
        more = {"period": error.period, "available": credits_text(error.left_micros), "required": credits_text(error.required_micros)}
    elif isinstance(error, InsufficientFunds):
        more = {"available": credits_text(error.available_micros), "required": credits_text(error.required_micros)}
    elif isinstance(error, RateLimited) and error.capacity:
        more = {"per_minute": error.capacity}
    elif isinstance(error, ModelUnavailable):
        more = {"model": error.model}
    elif isinstance(error, OperationRefused):
        more = {"hint": error.hint}
    elif isinstance(error, AnswerCanceled):
        more = {"job": error.job, "cost": credits_text(error.cost)}
    retry_after_s = getattr(error, "retry_after_s", DATABASE_RETRY_S if isinstance(error, DatabaseUnavailable) else None)
    if retry_after_s is not None:
        more["retry_after_s"] = retry_after_s
    return Refusal(status, code or str(getattr(error, "code", "error")), openai_type, str(error), getattr(error, "param", None), more)


def as_problem_json(error: Exception) -> Response:
    """Render for `/api/` routes (RFC 9457, with the seed's `error` beside `detail`)."""
    problem = problem_of(error)
    body: dict[str, Any] = {
        "type": "about:blank", "title": TITLES[problem.status], "status": problem.status, "detail": problem.detail, "code": problem.code,
        "error": problem.detail, **problem.more,
    }  # fmt: skip
    if problem.param:
        body["errors"] = {problem.param: [problem.detail]}
    return PlainJSON(body, problem.status, headers_of(problem), media_type="application/problem+json")

"""THE table: which error gets which status. Renders `application/problem+json` (RFC 9457) with the seed's `error` key beside it."""

from typing import Any

from starlette.responses import JSONResponse

from ledger.amounts import credits_text
from ledger.db import DatabaseUnavailable
from ledger.errors import (
    AgentRevoked,
    AppealDecided,
    AppealOpen,
    BudgetExceeded,
    GatewayUnavailable,
    HoldNotOpen,
    IdempotencyConflict,
    InsufficientFunds,
    InvalidFields,
    InvalidRequest,
    JobNotSettled,
    KeyInUse,
    LedgerError,
    LedgerUnavailable,
    NetworkFull,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    PaymentEnded,
    RateLimited,
)

STATUS: dict[type[LedgerError], tuple[int, str]] = {
    NotAuthenticated: (401, "Not authenticated"),
    InsufficientFunds: (402, "Insufficient funds"),
    BudgetExceeded: (402, "Budget exceeded"),
    NotPermitted: (403, "Not permitted"),
    NotFound: (404, "Not found"),
    HoldNotOpen: (409, "Hold not open"),
    JobNotSettled: (409, "Job not settled"),
    KeyInUse: (409, "Key in use"),
    NetworkFull: (409, "Network full"),
    AppealOpen: (409, "Appeal open"),
    AppealDecided: (409, "Appeal decided"),
    PaymentEnded: (409, "Transaction ended"),
    IdempotencyConflict: (422, "Idempotency conflict"),
    InvalidRequest: (400, "Invalid request"),
    RateLimited: (429, "Too many requests"),
    GatewayUnavailable: (503, "Payment gateway unavailable"),
    LedgerUnavailable: (503, "Ledger unavailable"),
}


def status_of(error: LedgerError) -> tuple[int, str]:
    """Look an error up by its class or the nearest parent in the table."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500, "Internal error"


def code_of(error: LedgerError) -> str:
    """Tell an error's code for people's programs: finer than its class where they would act differently."""
    if isinstance(error, HoldNotOpen):
        return f"hold_{error.state}"
    if isinstance(error, RateLimited) and error.limit == "open jobs":
        return "open_jobs"
    return error.code


def problem(status: int, title: str, detail: str, code: str, **more: Any) -> JSONResponse:
    """Render one problem."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code, "error": detail, **more}
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if "retry_after_s" in more:
        headers["Retry-After"] = str(more["retry_after_s"])
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def problem_of(error: LedgerError | DatabaseUnavailable) -> JSONResponse:
    """Render an error of ours."""
    if isinstance(error, DatabaseUnavailable):
        error = LedgerUnavailable()
    status, title = status_of(error)
    more: dict[str, Any] = {}
    if isinstance(error, InsufficientFunds):
        more = {"available": credits_text(error.available_micros), "required": credits_text(error.required_micros)}
    elif isinstance(error, BudgetExceeded):
        more = {"period": error.period, "available": credits_text(error.left_micros), "required": credits_text(error.required_micros)}
    elif isinstance(error, InvalidFields):
        more = {"errors": error.errors}
    elif isinstance(error, AgentRevoked):
        more = {"state": error.state}
    elif isinstance(error, InvalidRequest) and error.param:
        more = {"errors": {error.param: [error.detail]}}
    elif isinstance(error, RateLimited | LedgerUnavailable | GatewayUnavailable):
        more = {"retry_after_s": error.retry_after_s}
    return problem(status, title, str(error), code_of(error), **more)

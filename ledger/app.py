"""The ledger's two applications: the public one, and the internal one that only our own services reach (its own listener)."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ledger.api import (
    accounts,
    admin,
    agents,
    audits,
    catalog,
    feed,
    guarding,
    installing,
    keys,
    mock_pay,
    money,
    oauth,
    operations,
    pages,
    payments,
    sessions,
    tools,
    verification,
    wallet,
)
from ledger.console import Console
from ledger.context import LedgerContext
from ledger.db import DatabaseUnavailable
from ledger.errors import InvalidRequest, LedgerError
from ledger.guard import Guard
from ledger.problems import problem, problem_of

ROUTERS = (
    accounts.router, accounts.well_known, oauth.router, sessions.router, keys.router, wallet.router, agents.router, verification.router, money.router,
    admin.router, verification.admin_router, catalog.router, tools.router, payments.router, pages.router, installing.router,
)  # fmt: skip
MOCK_ROUTERS = (payments.mock_router, mock_pay.router)
PLAIN = ("Health", "Refused")  # answers with their own form, also when they say no
TEXTS = {
    "extra_forbidden": "Unknown field.",
    "missing": "This field is required.",
    "string_type": "Not a valid string.",
    "int_parsing": "A valid integer is required.",
}


class _PublicApp(FastAPI):
    """FastAPI that tells of our refusals: it says 422 for a wrong body, and takes every answer for plain JSON."""

    def openapi(self) -> dict[str, Any]:
        """Describe the app. The first call takes half a second, later ones nothing."""
        if not self.openapi_schema:
            _tell_of_problems(super().openapi())
        return super().openapi()


def create_public_app(context: LedgerContext) -> FastAPI:
    """Build the app that people call."""
    app = _public_app(has_mock=context.payments.mock is not None)
    app.state.context = context
    app.router.default = Console(context.settings, otherwise=app.router.not_found)
    return app


def described() -> dict[str, Any]:
    """Describe the app that people call, as OpenAPI; without what exists in development only."""
    return _public_app(has_mock=False).openapi()


def _public_app(*, has_mock: bool) -> FastAPI:
    # The routes themselves: `include_router` would make each anew, which takes a third of a second.
    routes = [route for router in ROUTERS + (MOCK_ROUTERS if has_mock else ()) for route in router.routes]
    app = _PublicApp(
        title="GPU-For-Everyone: accounts and money", version="1", docs_url=None, redoc_url=None, redirect_slashes=False, routes=routes
    )
    app.add_exception_handler(LedgerError, _on_error)
    app.add_exception_handler(DatabaseUnavailable, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(500, _on_defect)
    app.add_middleware(Guard)
    return app


def create_internal_app(context: LedgerContext) -> Starlette:
    """Build the app that our own services call; bare, because it is on every job's path twice. Who reaches it may read the metrics."""
    app = Starlette(
        routes=[
            Route("/metrics", _metrics, methods=["GET"]),
            Route("/internal/v1/operations", operations.operations, methods=["POST"]),
            Route("/internal/v1/feed", feed.read_feed, methods=["GET"]),
            Route("/internal/v1/guard/enter", guarding.enter, methods=["POST"]),
            Route("/internal/v1/guard/look", guarding.look, methods=["POST"]),
            Route("/internal/v1/audits/offer", audits.offer, methods=["POST"]),
            Route("/internal/v1/audits/take", audits.take, methods=["POST"]),
            Route("/internal/v1/audits/report", audits.report, methods=["POST"]),
            Route("/internal/v1/audits/count-alarm", audits.count_alarm, methods=["POST"]),
            Route("/internal/v1/audits/canary-take", audits.take_canaries, methods=["POST"]),
            Route("/internal/v1/audits/canary-report", audits.report_canary, methods=["POST"]),
        ]
    )
    app.state.context = context
    return app


async def _metrics(request: Request) -> Response:
    """Metrics for Prometheus: the certificate that the internal port asks for is the right to read them."""
    context: LedgerContext = request.app.state.context
    return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _tell_of_problems(described: dict[str, Any]) -> None:
    """Take FastAPI's 422 out of the description, as each route tells of its 400; what is refused is answered with a problem."""
    for methods in described["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            for status, answer in operation["responses"].items():
                if (
                    int(status) >= 400
                    and "application/json" in answer.get("content", {})
                    and not any(name in str(answer["content"]) for name in PLAIN)
                ):
                    answer["content"]["application/problem+json"] = answer["content"].pop("application/json")
    for name in ("HTTPValidationError", "ValidationError"):
        described["components"]["schemas"].pop(name, None)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LedgerError | DatabaseUnavailable)
    context: LedgerContext = request.app.state.context
    context.metrics.refusals.labels(error.code if isinstance(error, LedgerError) else "database_unavailable").inc()
    return problem_of(error)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    """400, not FastAPI's 422, with the texts of the seed's clients."""
    assert isinstance(error, RequestValidationError)
    if any(one["type"] == "json_invalid" for one in error.errors()):
        return problem(400, "Invalid request", "The body is not valid JSON.", InvalidRequest.code)
    errors: dict[str, list[str]] = {}
    for one in error.errors():
        errors.setdefault(str(one["loc"][1] if len(one["loc"]) > 1 else one["loc"][0]), []).append(_text_of(one))
    return problem(400, "Invalid request", next(iter(errors.values()))[0], InvalidRequest.code, errors=errors)


def _text_of(error: Any) -> str:
    if error["type"] == "value_error":  # raised by us, in our words
        return str(error["ctx"]["error"])
    return TEXTS.get(error["type"], str(error["msg"]))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if not request.url.path.startswith("/api/"):
        return Response(f"{error.status_code} {error.detail}\n", error.status_code, error.headers, media_type="text/plain")
    codes = {404: "not_found", 405: "method_not_allowed"}
    answer = problem(error.status_code, str(error.detail), str(error.detail), codes.get(error.status_code, "http_error"))
    answer.headers.update(error.headers or {})
    return answer


async def _on_defect(request: Request, error: Exception) -> Response:
    """A defect of ours; the server logs its traceback."""
    return problem(500, "Internal error", "Something went wrong on our side. Nothing was charged for this request.", "internal_error")

"""The ledger's two applications: the public one, and the internal one that only our own services reach (its own listener)."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ledger.api import operations, people
from ledger.console import page
from ledger.context import LedgerContext
from ledger.db import DatabaseUnavailable
from ledger.errors import InvalidRequest, LedgerError
from ledger.problems import problem, problem_of

MAX_BODY_BYTES = 1024 * 1024
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def create_public_app(context: LedgerContext) -> FastAPI:
    """Build the app that people call."""
    app = FastAPI(title="GPU-For-Everyone: accounts and money", version="1", docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.context = context
    app.include_router(people.router)
    app.add_exception_handler(LedgerError, _on_error)
    app.add_exception_handler(DatabaseUnavailable, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.middleware("http")(_guard)

    @app.get("/", include_in_schema=False)
    async def root(request: Request) -> HTMLResponse:
        health = await people.health(context)
        settings = context.settings
        return HTMLResponse(page(database_ok=health.status_code == 200, api_url=settings.api_url, dashboard_url=settings.dashboard_url))

    return app


def create_internal_app(context: LedgerContext) -> Starlette:
    """Build the app that our own services call; bare, because it is on every job's path twice."""
    app = Starlette(routes=[Route("/internal/v1/operations", operations.operations, methods=["POST"])])
    app.state.context = context
    return app


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse bodies that are too large while reading them; add the security headers to every answer."""
    if request.method in {"POST", "PUT", "PATCH", "DELETE"}:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                return problem(413, "Too large", f"The body is larger than {MAX_BODY_BYTES} bytes.", "too_large")
        request._body = bytes(body)  # noqa: SLF001 - starlette's own place for a body that was read
    response = await call_next(request)
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LedgerError | DatabaseUnavailable)
    return problem_of(error)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    """400, not FastAPI's 422, with the texts of the seed's clients."""
    assert isinstance(error, RequestValidationError)
    errors: dict[str, list[str]] = {}
    for one in error.errors():
        errors.setdefault(str(one["loc"][-1]), []).append(_text_of(one))
    first = next(iter(errors.values()))[0]
    detail = "The body is not valid JSON." if any(one["type"] == "json_invalid" for one in error.errors()) else first
    return problem(400, "Invalid request", detail, InvalidRequest.code, errors=errors)


def _text_of(error: Any) -> str:
    texts = {"extra_forbidden": "Unknown field.", "missing": "This field is required.", "string_type": "Not a valid string."}
    return texts.get(error["type"], str(error["msg"]))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if not request.url.path.startswith("/api/"):
        return Response(f"{error.status_code} {error.detail}\n", error.status_code, media_type="text/plain")
    return problem(error.status_code, str(error.detail), str(error.detail), "not_found" if error.status_code == 404 else "http_error")

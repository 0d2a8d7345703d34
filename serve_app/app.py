"""The Serve application, without Ray: routes over a context. `serve_app/deployment.py` puts it into Ray Serve."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from serve_app.api import (
    answering,
    batches,
    files,
    health,
    jobs,
    live,
    models,
    node_models,
    nodes,
    page,
    provider_stats,
    public,
    receipts,
    submitting,
    webhooks,
)
from serve_app.context import ServeContext
from serve_app.cross_origin import CrossOrigin
from serve_app.errors import UnknownRoute, WrongMethod
from serve_app.live.hub import opened as live_hub
from serve_app.metrics import Counted
from serve_app.problems import as_problem_json

Opens = Callable[[], AbstractAsyncContextManager[ServeContext]]


def create_app(opens: Opens) -> FastAPI:
    """Build the application; `opens` makes the context when the application starts and ends it when it stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opens() as context, live_hub(context) as app.state.live:
            app.state.context = context
            yield

    # FastAPI is what Serve's ingress takes; the routes are Starlette's own, because they read raw bodies on the hot path.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    dialects = (*answering.ROUTES, *files.ROUTES, *batches.ROUTES, *models.ROUTES)
    computing = (
        *submitting.ROUTES,
        *jobs.ROUTES,
        *receipts.ROUTES,
        *live.ROUTES,
        *public.ROUTES,
        *provider_stats.ROUTES,
        *nodes.ROUTES,
        *webhooks.ROUTES,
    )
    for route in (*dialects, *computing, *node_models.ROUTES, *health.ROUTES, *page.ROUTES):
        app.router.routes.append(route)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_middleware(CrossOrigin)
    app.add_middleware(Counted)
    return app


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.url.path.startswith("/api/") and error.status_code in {404, 405}:
        answer = as_problem_json(UnknownRoute(request.url.path) if error.status_code == 404 else WrongMethod(request.method))
        answer.headers.update(error.headers or {})  # which methods are allowed
        return answer
    return Response(f"{error.status_code} {error.detail}\n", error.status_code, media_type="text/plain")

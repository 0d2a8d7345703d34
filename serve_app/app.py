"""The Serve application, without Ray: routes over a context. `serve_app/deployment.py` puts it into Ray Serve."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from serve_app.api import answering, batches, files, health, jobs, models, node_models, nodes, page
from serve_app.context import ServeContext
from serve_app.errors import UnknownJob
from serve_app.problems import as_problem_json

Opens = Callable[[], AbstractAsyncContextManager[ServeContext]]


def create_app(opens: Opens) -> FastAPI:
    """Build the application; `opens` makes the context when the application starts and ends it when it stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opens() as context:
            app.state.context = context
            yield

    # FastAPI is what Serve's ingress takes; the routes are Starlette's own, because they read raw bodies on the hot path.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    for route in (
        *answering.ROUTES,
        *files.ROUTES,
        *batches.ROUTES,
        *models.ROUTES,
        *jobs.ROUTES,
        *node_models.ROUTES,
        *nodes.ROUTES,
        *health.ROUTES,
        *page.ROUTES,
    ):
        app.router.routes.append(route)
    app.add_exception_handler(HTTPException, _on_http_error)
    return app


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.url.path.startswith("/api/") and error.status_code == 404:
        return as_problem_json(UnknownJob())
    return Response(f"{error.status_code} {error.detail}\n", error.status_code, media_type="text/plain")

"""`/metrics` of our processes that serve by aiohttp."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

FORM = "text/plain; version=0.0.4"


def metrics_page(registry: CollectorRegistry) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Make the handler that shows a registry in Prometheus's text form."""

    async def show(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": FORM})

    return show

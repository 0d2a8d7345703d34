"""Runs the dashboard guard: `python -m serve_app.dashboard_guard`. Without Ray, and without a database."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from cluster import logs
from cluster.service_tokens import ServiceTokens
from ledger.client import LedgerClient
from serve_app.dashboard_guard.settings import GRAFANA_TOKEN, RAY_TOKEN, GuardSettings
from serve_app.dashboard_guard.site import GuardSite, listening
from serve_app.dashboard_guard.tools import Tool, grafana, ray
from serve_app.dashboard_guard.visits import Visits

SERVICE = "guard"
log = structlog.get_logger()


def tools_of(settings: GuardSettings) -> dict[str, Tool]:
    """Tell what is behind this guard, by name."""
    found = [ray(settings.dashboard_url, settings.secret(RAY_TOKEN))]
    if settings.grafana_url:
        found.append(grafana(settings.grafana_url, settings.optional_secret(GRAFANA_TOKEN)))
    return {tool.name: tool for tool in found}


@asynccontextmanager
async def running_guard(settings: GuardSettings) -> AsyncIterator[str]:
    """Run one; answers its URL."""
    tokens = ServiceTokens(settings.secret("service_guard.pem").encode(), SERVICE)
    ledger = LedgerClient(settings.ledger, lambda: tokens.mint("ledger-internal"))
    await ledger.start()
    site = GuardSite(Visits(ledger), tools_of(settings), settings.public_url, is_tls=settings.is_tls)
    try:
        async with listening(site, settings.guard_host, settings.guard_port, settings.hosts) as port:
            yield f"http://{settings.guard_host}:{port}"
    finally:
        await ledger.aclose()


async def run(settings: GuardSettings) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_guard(settings) as url:
        log.info("guard_started", url=url, grafana=bool(settings.grafana_url))
        await stop.wait()


def main() -> None:
    """Run it."""
    logs.configure(SERVICE)
    asyncio.run(run(GuardSettings()))


if __name__ == "__main__":
    main()

"""Runs the auditor: `python -m serve_app.auditor`. On the operator's machine, never on a provider's; without Ray, and without a database."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from cluster import logs
from cluster.audit.reference import Reference
from cluster.service_tokens import ServiceTokens
from ledger.client import LedgerClient
from serve_app.auditor.examining import NO_REFERENCE, Examiner
from serve_app.auditor.metrics import AuditorMetrics
from serve_app.auditor.settings import AuditorSettings
from serve_app.auditor.working import Auditor
from serve_app.metrics_page import metrics_page

SERVICE = "auditor"
RESTART_S = 5.0
log = structlog.get_logger()


@asynccontextmanager
async def running_auditor(settings: AuditorSettings) -> AsyncIterator[str]:
    """Run one; answers the URL of its `/healthz` and `/metrics`."""
    tokens = ServiceTokens(settings.service_key(), SERVICE)
    ledger = LedgerClient(settings.ledger, lambda: tokens.mint("ledger-internal"))
    await ledger.start()
    reference = Reference(settings.reference_url) if settings.reference_url else None
    if reference:
        await reference.start()
    metrics = AuditorMetrics()
    auditor = Auditor(ledger, Examiner(reference, settings.sealing_key()), metrics, settings.auditor_look_s)
    work = asyncio.create_task(_kept(auditor))
    runner = await _site(settings, metrics)
    try:
        yield f"http://{settings.auditor_host}:{runner.addresses[0][1]}"
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await runner.cleanup()
        if reference:
            await reference.aclose()
        await ledger.aclose()


async def _kept(auditor: Auditor) -> None:
    """Let it work for ever; a defect of ours ends one sample, not the auditor."""
    while True:
        try:
            await auditor.run()
        except Exception:
            log.exception("auditor_failed")
        await asyncio.sleep(RESTART_S)


async def _site(settings: AuditorSettings, metrics: AuditorMetrics) -> web.AppRunner:
    async def health(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "reference": settings.reference_url or NO_REFERENCE})

    app = web.Application()
    app.add_routes([web.get("/healthz", health), web.get("/metrics", metrics_page(metrics.registry))])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, settings.auditor_host, settings.auditor_port).start()
    return runner


async def run(settings: AuditorSettings) -> None:
    """Work until told to stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running_auditor(settings) as url:
        log.info("auditor_started", url=url, reference=settings.reference_url or NO_REFERENCE)
        await stop.wait()


def main() -> None:
    """Run it."""
    logs.configure(SERVICE)
    asyncio.run(run(AuditorSettings()))


if __name__ == "__main__":
    main()

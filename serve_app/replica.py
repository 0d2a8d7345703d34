"""One Serve replica: its context, made in the application's lifespan from arguments that are texts and paths; secrets are files."""

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import structlog
from fastapi import FastAPI

from cluster.breaker import Breakers
from cluster.dispatcher_actor import find
from cluster.metrics import ray_meter
from cluster.node_client import NodeClient
from cluster.service_tokens import ServiceTokens, TokenVerifier
from cluster.view import ClusterView
from ledger.client import LedgerClient
from serve_app.adoption import adopt_for_ever
from serve_app.app import create_app
from serve_app.auditing import SEALING_KEY, AuditDesk
from serve_app.auth import OWN_MACHINE, Callers
from serve_app.batches.runner import BatchRunner
from serve_app.canaries.desk import CanaryDesk
from serve_app.canceling import stop_unwanted
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable, Line
from serve_app.dispatching import start_dispatcher
from serve_app.feed import LedgerFeed
from serve_app.metrics import ServeFigures, tell_for_ever
from serve_app.settings import ServeSettings
from serve_app.settlement import Settlement
from serve_app.store.batches import BatchStore
from serve_app.store.cancels import Cancels
from serve_app.store.counts import Counts
from serve_app.store.files import FileStore
from serve_app.store.jobs import JobStore, JobWriter
from serve_app.store.pages import JobPages
from serve_app.sweeper import renew_leases, sweep
from serve_app.tracing.steps import traces_of
from serve_app.webhooks.delivering import Deliverer
from serve_app.webhooks.desk import WebhookDesk
from serve_app.webhooks.outbox import Outbox
from serve_app.webhooks.sending import Sender

SERVICE = "serve"
DRAIN_LIMIT_S = 10.0
LOOP_PAUSE_S = 1.0
log = structlog.get_logger()
_told: dict[str, str] = {}  # Serve builds the application without arguments, right after the deployment's constructor got them


@asynccontextmanager
async def opened(settings: ServeSettings, find_dispatcher: Callable[[], Any] = find) -> AsyncIterator[ServeContext]:
    """Make a replica's context, run its loops, end both."""
    tokens = ServiceTokens(settings.secret("service_serve.pem"), SERVICE)
    database_url = settings.secret("serve_database_url").decode()
    driver = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    ledger = LedgerClient(settings.ledger, lambda: tokens.mint("ledger-internal"))
    nodes = NodeClient(lambda: tokens.mint("node"))
    breakers = Breakers()
    view = ClusterView(find_dispatcher, on_return=breakers.returned)
    writer, store = JobWriter(database_url, driver), JobStore(database_url)
    pages, marks = Line(database_url, name="gfe_serve_pages"), Line(database_url, name="gfe_serve_marks")
    figures = ServeFigures()
    traces = traces_of(settings, driver)
    settlement = Settlement(ledger, writer, store, figures, traces)
    callers = Callers(ledger, TokenVerifier(settings.secret("service_serve.pub.pem"), OWN_MACHINE))
    feed = LedgerFeed(ledger, callers.forget, settings.catalog_mode)
    audits = _audit_desk(settings, ledger, feed)
    context = ServeContext(
        settings=settings, ledger=ledger, callers=callers, view=view, nodes=nodes, facts=nodes, writer=writer, store=store, settlement=settlement,
        feed=feed, audits=audits, cancels=Cancels(marks), pages=JobPages(pages), counts=Counts(pages),
        webhooks=WebhookDesk.of(settings, database_url), files=FileStore(database_url), batches=BatchStore(database_url), figures=figures,
        breakers=breakers, traces=traces,
    )  # fmt: skip
    await ledger.start()
    await nodes.start()
    writer.start()
    view.start()
    # The loops have connections of their own: a slow sweep must not delay a lease, nor a long list the end of a job.
    leases, sweeps, adoptions, told = (JobStore(database_url) for _ in range(4))
    outbox, batches, files = Outbox(database_url), BatchStore(database_url), FileStore(database_url)
    deliverer = Deliverer(outbox, told, Sender(context.webhooks.guard), context.webhooks.secrets, context.rng)
    loops = [
        asyncio.create_task(_kept(one))
        for one in (
            partial(renew_leases, leases, writer), partial(sweep, sweeps, ledger), partial(adopt_for_ever, context, adoptions), settlement.run,
            context.feed.run, partial(stop_unwanted, context), deliverer.run, deliverer.tidy_for_ever, BatchRunner(context, batches, files).run,
        )
    ]  # fmt: skip
    if audits:
        figures.audit_samples, figures.edge_jobs = audits.counts, audits.ended
        loops.append(asyncio.create_task(_kept(audits.run)))
    context.canaries = CanaryDesk(context, ledger)
    figures.canaries = context.canaries.counts
    loops.append(asyncio.create_task(_kept(context.canaries.run)))
    loops.append(asyncio.create_task(_kept(partial(tell_for_ever, figures, ray_meter))))
    try:
        yield context
    finally:
        await context.drained(DRAIN_LIMIT_S)
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await deliverer.aclose()
        with suppress(DatabaseUnavailable):
            await leases.release(writer.driver)  # jobs that run by themselves go on elsewhere at once
        await view.aclose()
        await writer.aclose()
        stores = (leases, sweeps, adoptions, told, outbox, batches, files, context.webhooks, context.batches, context.files, store)
        for one in (*stores, nodes, ledger):
            await one.aclose()
        for line in (pages, marks):
            await line.drop()
        await asyncio.to_thread(traces.close)


def _audit_desk(settings: ServeSettings, ledger: LedgerClient, feed: LedgerFeed) -> AuditDesk | None:
    """Make the desk that offers jobs to be audited; None where there is no auditor."""
    if not settings.has_secret(SEALING_KEY):
        return None
    return AuditDesk(ledger, feed, bytes.fromhex(settings.secret(SEALING_KEY).decode()))


async def _kept(loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a loop for ever; one that a defect of ours ends is begun anew, for a replica without it would go wrong in silence."""
    while True:
        try:
            await loop()
        except Exception:
            log.exception("loop_failed", loop=str(loop))
        await asyncio.sleep(LOOP_PAUSE_S)


def tell(arguments: Mapping[str, str]) -> None:
    """Keep the deployment's arguments until the application is built."""
    _told.clear()
    _told.update(arguments)


def create_replica_app() -> FastAPI:
    """Build the replica's application from the arguments it was told."""
    settings = ServeSettings.model_validate(_told)
    return create_app(lambda: opened(settings, partial(start_dispatcher, settings)))

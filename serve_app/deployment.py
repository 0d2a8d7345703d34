"""The application in Ray Serve, and its driver: the part `serve` of `gfe up`.

A replica's context is made in the application's lifespan, from arguments that are texts and paths; secrets are read from files there.
"""

import asyncio
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog

from cluster.connect import NAMESPACE, connect
from cluster.dispatcher_actor import NAME, get_or_start
from cluster.node_client import NodeClient
from cluster.service_tokens import ServiceTokens
from cluster.view import ClusterView
from cluster.worker_actor import WorkerSettings
from ledger.client import LedgerClient
from serve_app.app import create_app
from serve_app.auth import Callers
from serve_app.context import ServeContext
from serve_app.settings import ServeSettings
from serve_app.settlement import Settlement
from serve_app.store.jobs import JobStore, JobWriter
from serve_app.sweeper import renew_leases, sweep

import ray  # isort: skip - after cluster.connect, which sets what Ray reads at its import
from fastapi import FastAPI
from ray import serve

log = structlog.get_logger()
APPLICATION = "gfe"
SERVICE = "serve"
DRAIN_LIMIT_S = 10.0
START_TRIES = 3
WATCH_S = 1.0
SILENT_LIMIT_S = 45.0  # Ray brings HAProxy and replicas back within about 30 s by itself


@asynccontextmanager
async def opened(settings: ServeSettings) -> AsyncIterator[ServeContext]:
    """Make a replica's context, run its loops, end both."""
    tokens = ServiceTokens(settings.secret("service_serve.pem"), SERVICE)
    database_url = settings.secret("serve_database_url").decode()
    driver = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    ledger = LedgerClient(settings.ledger_socket, lambda: tokens.mint("ledger-internal"))
    nodes = NodeClient(lambda: tokens.mint("node"))
    view = ClusterView(lambda: ray.get_actor(NAME, namespace=NAMESPACE))
    writer, store = JobWriter(database_url, driver), JobStore(database_url)
    settlement = Settlement(ledger, writer, store)
    context = ServeContext(
        settings=settings, ledger=ledger, callers=Callers(ledger), view=view, nodes=nodes, writer=writer, store=store, settlement=settlement
    )
    await ledger.start()
    await nodes.start()
    writer.start()
    view.start()
    # The loops have connections of their own: a slow sweep must not delay a lease.
    leases, sweeps = JobStore(database_url), JobStore(database_url)
    loops = [asyncio.create_task(one) for one in (renew_leases(leases, driver), sweep(sweeps, ledger), settlement.run())]
    try:
        yield context
    finally:
        await context.drained(DRAIN_LIMIT_S)
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await view.aclose()
        await writer.aclose()
        for one in (leases, sweeps, store, nodes, ledger):
            await one.aclose()


def create_replica_app() -> FastAPI:
    """Build the replica's application; its settings came with the deployment."""
    settings = ServeSettings(**serve.get_replica_context().servable_object.arguments)
    return create_app(lambda: opened(settings))


@serve.deployment(
    max_ongoing_requests=1000,
    health_check_period_s=10,
    graceful_shutdown_timeout_s=30,
    ray_actor_options={"num_cpus": 0, "resources": {"control": 0.001}, "label_selector": {"gfe.io/role": "control"}},
)
@serve.ingress(create_replica_app)
class Api:
    """One replica of the job APIs."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.arguments = arguments


def build(args: dict[str, str]) -> serve.Application:
    """Build the application from its arguments (`import_path: serve_app.deployment:build`)."""
    replicas = int(args.get("replicas", 1))
    return Api.options(num_replicas=replicas).bind(args)  # type: ignore[no-any-return]


# --- the driver -----------------------------------------------------------------------------------------------------------------------


def is_ready(settings: ServeSettings) -> bool:
    """Ask the ingress for `/readyz`."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{settings.api_host}:{settings.api_port}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def answers(settings: ServeSettings) -> bool:
    """Ask the ingress whether any replica lives behind it."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{settings.api_host}:{settings.api_port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def start_dispatcher(settings: ServeSettings) -> Any:
    """Get the Dispatcher, or start it."""
    worker = WorkerSettings(
        runtime_url=settings.runtime_url,
        public_key_file=str(settings.secrets_dir / "service_serve.pub.pem"),
        host=settings.node_host,
        port=settings.node_port,
        slots=settings.slots,
        simulated_gpus=settings.simulated_gpus,
    )
    return get_or_start(str(settings.secrets_dir / "service_serve.pem"), worker)


def deploy(settings: ServeSettings) -> None:
    """Start Serve on the head only, and run the application."""
    serve.start(proxy_location="HeadOnly", http_options={"host": settings.api_host, "port": settings.api_port})
    serve.run(build(settings.as_arguments()), name=APPLICATION, route_prefix="/")


class Driver:
    """Keeps the Dispatcher and the application running; restarts only what Ray does not bring back by itself."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._stopping = False
        self._heard_at = time.monotonic()

    def stop(self, *_: Any) -> None:
        """End the watch (a signal handler)."""
        self._stopping = True

    def run(self) -> None:
        """Start, then watch until told to stop.

        Raises:
            Exception: It could not be started in `START_TRIES` tries; whoever runs us starts us again.
        """
        connect(self._settings.ray_address)
        start_dispatcher(self._settings)
        for attempt in range(1, START_TRIES + 1):
            try:
                deploy(self._settings)
                break
            except Exception:
                log.exception("serve_not_started", attempt=attempt)
                if attempt == START_TRIES:
                    raise
        log.info("serve_started", port=self._settings.api_port)
        while not self._stopping:
            time.sleep(WATCH_S)
            self._look()

    def _look(self) -> None:
        """See to the Dispatcher; deploy again when the ingress has been silent for longer than Ray needs."""
        with suppress(Exception):
            ray.get(start_dispatcher(self._settings).status.remote(), timeout=10)
        now = time.monotonic()
        if answers(self._settings):
            self._heard_at = now
        elif now - self._heard_at > SILENT_LIMIT_S:
            log.warning("ingress_silent", seconds=round(now - self._heard_at))
            self._heard_at = now
            with suppress(Exception):
                deploy(self._settings)


def main() -> None:
    """Run the driver."""
    driver = Driver(ServeSettings())
    signal.signal(signal.SIGTERM, driver.stop)
    signal.signal(signal.SIGINT, driver.stop)
    driver.run()
    sys.stdout.flush()
    os._exit(0)  # the cluster is ended by whoever runs it; a graceful goodbye to it only takes time


if __name__ == "__main__":
    main()

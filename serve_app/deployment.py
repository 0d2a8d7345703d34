"""The application in Ray Serve, and its driver: the part `serve` of `gfe up`. What a replica is made of is in `serve_app/replica.py`."""

import os
import signal
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from typing import Any

import structlog

from cluster.connect import connect
from serve_app import replica
from serve_app.dispatching import start_dispatcher
from serve_app.settings import ServeSettings

import ray  # isort: skip - after cluster.connect, which sets what Ray reads at its import
from ray import serve

log = structlog.get_logger()
APPLICATION = "gfe"
START_TRIES = 3
WATCH_S = 1.0
MOST_REQUESTS = 1000
LONGEST_STREAM_S = 900
CORES_FOR_TWO = 4
SILENT_LIMIT_S = 45.0  # Ray brings HAProxy and replicas back within about 30 s by itself


@serve.deployment(
    max_ongoing_requests=MOST_REQUESTS,
    max_queued_requests=MOST_REQUESTS,  # beyond these the ingress answers 503 by itself; our own limits are far below
    health_check_period_s=10,
    health_check_timeout_s=30,
    graceful_shutdown_wait_loop_s=2,
    graceful_shutdown_timeout_s=LONGEST_STREAM_S,  # a replica that is replaced ends what it streams
    max_surge_percent=25,  # rounded up: a new replica serves before an old one stops, also where there is but one
    ray_actor_options={"num_cpus": 0, "resources": {"control": 0.001}, "label_selector": {"gfe.io/role": "control"}},
)
@serve.ingress(replica.create_replica_app)
class Api:
    """One replica of the job APIs."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        replica.tell(arguments)


def replicas_for(wanted: int | None, cores: int) -> int:
    """Choose how many replicas run: with two, one can die without anybody waiting for the next."""
    if wanted is not None:
        return wanted
    return 2 if cores >= CORES_FOR_TWO else 1


def build(args: dict[str, str]) -> serve.Application:
    """Build the application from its arguments (`import_path: serve_app.deployment:build`)."""
    wanted = args.get("replicas")
    replicas = replicas_for(int(wanted) if wanted else None, len(os.sched_getaffinity(0)))
    api: Any = Api  # Serve wraps the class
    application: serve.Application = api.options(num_replicas=replicas).bind(args)
    return application


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

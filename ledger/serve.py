"""Runs both of the ledger's listeners in one process: the public port and the internal Unix socket."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import structlog
import uvicorn

from ledger.app import create_internal_app, create_public_app
from ledger.context import LedgerContext
from ledger.loops import loops
from ledger.settings import LedgerSettings

SHUTDOWN_LIMIT_S = 5
log = structlog.get_logger()


class _Server(uvicorn.Server):
    """A server that leaves signals alone: two of them in one loop would not stop together."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: object, **listen: object) -> _Server:
    options = {
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": SHUTDOWN_LIMIT_S,
        "lifespan": "off",
    }
    return _Server(uvicorn.Config(app, **options, **listen))  # type: ignore[arg-type]


async def serve(settings: LedgerSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    context = LedgerContext.of_settings(settings)
    context.writer.start()
    prepare_socket(settings.ledger_socket)
    servers = [
        _server(create_public_app(context), host=settings.ledger_host, port=settings.ledger_port),
        _server(create_internal_app(context), uds=str(settings.ledger_socket)),
    ]

    def stop() -> None:
        for server in servers:
            server.should_exit = True

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop)
    running = [asyncio.ensure_future(loop) for loop in loops(context)]
    log.info("ledger_starting", port=settings.ledger_port)
    try:
        await asyncio.gather(*(server.serve() for server in servers))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await context.aclose()


def prepare_socket(path: Path) -> None:
    """Make the socket's folder the gate (uvicorn opens the socket itself to everybody), and remove a dead server's socket.

    A folder that is another group's was made so for callers who run as another user: its group may pass.
    """
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700 if folder.stat().st_gid == os.getegid() else 0o710)
    path.unlink(missing_ok=True)

"""Runs the ledger's listeners in one process: the public port, the internal Unix socket, and where there are other machines the internal port.

A second process of the same user may be started beside a running one, for an upgrade: both accept at the ports, and the Unix socket's name leads to
the newer one from when that serves. The older one then ends what it has begun when it is told to stop.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import structlog
import uvicorn

from ledger.app import create_internal_app, create_public_app
from ledger.context import LedgerContext
from ledger.internal import server_options
from ledger.loops import loops
from ledger.settings import LedgerSettings

SHUTDOWN_LIMIT_S = 5
BACKLOG = 1024
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


def public_server(app: object, settings: LedgerSettings) -> uvicorn.Server:
    """Make the server of the public port: to the app a request comes from whom our own proxies name."""
    return _server(app, host=settings.ledger_host, port=settings.ledger_port, forwarded_allow_ips=settings.proxies)


def internal_server(app: object, settings: LedgerSettings, port: int) -> uvicorn.Server:
    """Make the server of the internal port: TLS, and nobody without a certificate of ours."""
    return _server(app, host=settings.ledger_internal_host, port=port, **server_options(settings.secrets_dir))


async def serve(settings: LedgerSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    context = LedgerContext.of_settings(settings)
    context.writer.start()
    public, internal = create_public_app(context), create_internal_app(context)
    public.openapi()  # takes half a second, in which no request should wait
    named = NamedSocket(settings.ledger_socket)
    servers = [
        (public_server(public, settings), shared_port(settings.ledger_host, settings.ledger_port)),
        (_server(internal), named.listener),
    ]
    if settings.ledger_internal_port is not None:
        port = settings.ledger_internal_port
        servers.append((internal_server(internal, settings, port), shared_port(settings.ledger_internal_host, port)))

    def stop() -> None:
        for server, _ in servers:
            server.should_exit = True

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop)
    running = [asyncio.ensure_future(loop) for loop in loops(context)]
    log.info("ledger_starting", port=settings.ledger_port)
    named.take_over()  # all listeners take connections from here on
    try:
        await asyncio.gather(*(server.serve(sockets=[listener]) for server, listener in servers))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await context.aclose()


def shared_port(host: str, port: int) -> socket.socket:
    """Listen at a port where another process of the same user may listen too (SO_REUSEPORT): the kernel gives each a share of the connections."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=True)


class NamedSocket:
    """A Unix socket whose name goes from process to process without a moment in which it leads nowhere."""

    def __init__(self, path: Path) -> None:
        """Listen under a name of our own.

        The folder is made the gate: the socket itself is open to everybody. A folder that is another group's was made so for callers who run as
        another user: its group may pass.
        """
        folder = path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700 if folder.stat().st_gid == os.getegid() else 0o710)
        self._path, self._own = path, path.with_name(f"{path.name}.{os.getpid()}")
        self._own.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(self._own))
        self._own.chmod(0o666)
        self.listener.listen(BACKLOG)

    def take_over(self) -> None:
        """Let the name lead here; who is connected to an older process stays so."""
        self._own.rename(self._path)

"""A throw-away PostgreSQL server for what runs outside pytest, or must be killed."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from serve_app.local import database, postgres

PASSWORD = "tests-only"
START_LIMIT_S = 60


class ThrowAwayServer:
    """A server that can be killed and started again on the same data."""

    def __init__(self, folder: Path, tag: str, *options: str) -> None:
        self._server = postgres.locate(folder / "data", folder / "socket", tag=tag)
        postgres.initialize(self._server, "", is_throw_away=True)
        self._log = folder / "log"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.admin_url = make_conninfo(user="postgres", dbname="gfe", host=str(self._server.socket_folder), port=postgres.PORT)
        self.ledger_url = make_conninfo(self.admin_url, user="gfe_ledger", password=PASSWORD)
        self.pay_url = make_conninfo(self.admin_url, user="gfe_pay", password=PASSWORD)

    def start(self) -> None:
        """Start it and wait until it answers. PostgreSQL refuses as long as orphans of a killed server still run: then once more."""
        until = time.monotonic() + START_LIMIT_S
        while True:
            if self._process is None or self._process.poll() is not None:
                with self._log.open("ab") as log:
                    self._process = subprocess.Popen([*self._server.command(), *self._options], stdout=log, stderr=log)
            try:
                psycopg.connect(make_conninfo(self.admin_url, dbname="postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def kill(self) -> None:
        """End the postmaster without a word."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(60)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(postgres.FAST_SHUTDOWN)
            self._process.wait(60)

    def logged(self, text: str) -> int:
        """How often the server's log says this."""
        return self._log.read_text(errors="replace").count(text)


@contextlib.contextmanager
def throw_away_server(*options: str) -> Iterator[ThrowAwayServer]:
    """A running, migrated server in a folder of its own."""
    folder, tag = Path(tempfile.mkdtemp(prefix="gfe-proof-")), f"proof-{os.getpid()}"
    folder.chmod(0o711)
    server = ThrowAwayServer(folder, tag, *options)
    try:
        server.start()
        database.upgrade(server.admin_url, dict.fromkeys(database.LOGINS.values(), PASSWORD))
        yield server
    finally:
        server.stop()
        postgres.purge(folder / "data", tag=tag)
        shutil.rmtree(folder, ignore_errors=True)

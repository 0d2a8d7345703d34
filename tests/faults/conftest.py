"""Platforms to break, the check that all is quiet afterwards, and the figures of the rows."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.conftest import Database, login
from tests.faults.platform import faulty_platform
from tests.ledger.proof.server import throw_away_server
from tests.running_ledger import start_ledger

LEDGER = {
    "welcome_credits": "100000.00", "open_jobs": 10_000, "submits_per_minute": 1_000_000, "completion_price": "1000.00"
}  # fmt: skip
FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
async def platform_with(database, ledger_with):
    """Start a platform; when the test is done, all must come to rest by itself, and the books must hold."""
    async with contextlib.AsyncExitStack() as stack:
        started = []

        async def start(*, ledger_settings=None, **options):
            ledger = await ledger_with(**(LEDGER | (ledger_settings or {})))
            started.append(await stack.enter_async_context(faulty_platform(database, ledger, **options)))
            return started[-1]

        yield start
        for platform in started:
            await platform.require_quiet()


@pytest.fixture
def server():
    """A PostgreSQL server that may be killed and frozen; its books are audited when the test is done."""
    from ledger.money.audit import audit_at

    with throw_away_server() as server:
        yield server
        assert [finding.rule for finding in audit_at(server.admin_url) if not finding.is_held] == []


@pytest.fixture
async def platform_over(server):
    """Start a platform over that server."""
    folder = Path(tempfile.mkdtemp(prefix="gfe-"))
    database = Database(server.admin_url, server.ledger_url, server.pay_url, login(server.admin_url, "gfe_serve", "gfe"), "gfe")
    async with contextlib.AsyncExitStack() as stack:

        async def start(**options):
            ledger, stop = await start_ledger(database, folder, **LEDGER)
            stack.push_async_callback(stop)
            start.platform = await stack.enter_async_context(faulty_platform(database, ledger, **options))
            return start.platform

        yield start
        await start.platform.require_quiet()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def figure(request):
    """Note a measured figure of a row; all are shown at the end of the run."""
    notes = request.config.stash.setdefault(FIGURES, [])

    def note(row, what, value):
        notes.append(f"row {row}: {what}: {value}")

    return note


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(FIGURES, []):
        terminalreporter.write_line(line)

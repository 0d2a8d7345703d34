"""What all tests share: one PostgreSQL server per run, and a migrated database of its own for every test."""

import gc
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.machine import machine
from serve_app.local import secrets as installed_secrets
from tests.cluster.ray_head import RayHead
from tests.databases import Database, database_server, fresh_database, migrated_template, wait_until_it_answers

# Ray reads its settings once, when it is first imported, which any other conftest may do: so they are there before.
RAY_HEAD = RayHead()
os.environ.update(RAY_HEAD.settings)
FAILURE_CHARS = 600  # of a failure that is named at once; the rest follows at the end


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="machines that the proof of continuation kills")
    parser.addoption("--connects", type=int, default=10_000, help="connects of strangers in the hostile suite")
    parser.addoption(
        "--figures", metavar="FILE", help="file that the measured figures are written to as JSON; those of other tests stay in it"
    )
    parser.addoption("--shots", metavar="DIR", help="folder for pictures of the console's pages (tests/web)")


class FailuresAtOnce:
    """Names each failure when it comes, in a line or two: a run that a time limit cuts off has then told what failed."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self.terminal = terminal

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.terminal.write_line(
                f"\n{report.when} of {report.nodeid} failed: {crash.message if crash else report.longrepr}"[:FAILURE_CHARS]
            )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if (terminal := config.pluginmanager.get_plugin("terminalreporter")) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FailuresAtOnce(terminal))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a folder's tests together, in whatever order within: what a folder shares, a whole installation at times, ends with it."""
    folders: dict[Path, int] = {}
    items.sort(key=lambda item: folders.setdefault(item.path.parent, len(folders)))


def pytest_collection_finish() -> None:
    """Modules and collected tests live to the end: looking at them again in every collection of garbage took a twentieth of a run."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def figure(record_property):
    """Note a measured figure of a row of the fault matrix, or of another proof; all are shown at the end of the run."""

    def note(row, what, value):
        record_property("figure", {"row": str(row), "what": str(what), "value": str(value)})

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        one for those in terminalreporter.stats.values() for one in those if isinstance(one, pytest.TestReport) and one.when == "call"
    ]
    figures = [{**value, "test": report.nodeid} for report in reports for name, value in report.user_properties if name == "figure"]
    for one in figures:
        terminalreporter.write_line(f"row {one['row']}: {one['what']}: {one['value']}")
    if (named := terminalreporter.config.getoption("--figures")) and figures:
        keep_figures(Path(named), figures)


def keep_figures(path: Path, figures: list[dict[str, str]]) -> None:
    """Write figures beside those of other tests that are in the file already."""
    kept = json.loads(path.read_text())["figures"] if path.exists() else []
    new = {one["test"] for one in figures}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), "figures": [one for one in kept if one["test"] not in new] + figures}, indent=1))


def pytest_unconfigure(config: pytest.Config) -> None:
    RAY_HEAD.remove()


@pytest.fixture(scope="session")
def ray_head() -> Iterator[RayHead]:
    """A Ray head of this run's own; this process is connected to it."""
    head = RAY_HEAD
    try:
        head.start()
        from cluster.connect import connect

        import ray  # isort: skip - after cluster.connect, which sets what Ray reads at its import

        connect(head.address)
        yield head
        ray.shutdown()
    finally:
        head.stop()


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """Admin URL of the run's server."""
    with database_server() as url:
        yield url


@pytest.fixture(name="wait_until_it_answers", scope="session")
def wait_until_it_answers_fixture():
    return wait_until_it_answers


@pytest.fixture(scope="session")
def template(server_url: str) -> str:
    """Name of the migrated template database."""
    return migrated_template(server_url)


@pytest.fixture
def database(server_url: str, template: str) -> Iterator[Database]:
    """A fresh migrated database for one test."""
    with fresh_database(server_url, template) as made:
        yield made


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def ledger_with(database):
    """Start ledgers with settings of the test's choice."""
    stops, folders = [], []

    async def start(*, beside=None, secret_files=None, **settings):
        """Start one; `beside` another it shares that one's secrets, as processes of one installation do."""
        from tests.running_ledger import start_ledger

        if beside is None:
            folders.append(Path(tempfile.mkdtemp(prefix="gfe-")))
        folder = beside.folder if beside else folders[-1]
        for name, text in (secret_files or {}).items():
            installed_secrets.overwrite(folder / name, text)
        running, stop = await start_ledger(database, folder, socket=f"s{len(stops) or ''}", **settings)
        stops.append(stop)
        return running

    yield start
    for stop in stops:
        await stop()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def ledger(ledger_with):
    return await ledger_with(welcome_credits="5.00")


@pytest.fixture
def idempotency_key():
    return secrets.token_hex(8)

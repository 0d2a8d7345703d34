"""What all tests share: one PostgreSQL server per run, and a migrated database of its own for every test."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.local import secrets as installed_secrets
from tests.cluster.ray_head import RayHead
from tests.databases import Database, database_server, fresh_database, migrated_template, wait_until_it_answers

# Ray reads its settings once, when it is first imported, which any other conftest may do: so they are there before.
RAY_HEAD = RayHead()
os.environ.update(RAY_HEAD.settings)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="machines that the proof of continuation kills")


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

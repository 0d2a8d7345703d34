"""What all tests share: one PostgreSQL server per run, and a migrated database of its own for every test."""

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from serve_app.local import database as migrations
from serve_app.local import postgres
from serve_app.local import secrets as installed_secrets
from tests.cluster.ray_head import RayHead

PASSWORD = "tests-only"
RAY_HEAD = pytest.StashKey[RayHead]()


@dataclass(frozen=True)
class Database:
    """A migrated database: URLs of its logins."""

    admin_url: str
    ledger_url: str
    pay_url: str
    serve_url: str
    name: str


def login(admin_url: str, role: str, name: str) -> str:
    return make_conninfo(admin_url, user=role, password=PASSWORD, dbname=name)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="machines that the proof of continuation kills")


def pytest_configure(config: pytest.Config) -> None:
    """Say what Ray needs to know before anything imports it: it reads its settings once, then."""
    head = config.stash[RAY_HEAD] = RayHead()
    os.environ.update(head.settings)


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[RAY_HEAD].remove()


@pytest.fixture(scope="session")
def ray_head(request: pytest.FixtureRequest) -> Iterator[RayHead]:
    """A Ray head of this run's own; this process is connected to it."""
    head = request.config.stash[RAY_HEAD]
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
    """Admin URL of the run's server: `GFE_TEST_DATABASE_URL`, or the wheel's server, unsynced, in a folder of its own."""
    if given := os.environ.get("GFE_TEST_DATABASE_URL"):
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="gfe-"))
    folder.chmod(0o711)
    server = postgres.locate(folder / "data", folder / "socket", tag=f"test-{os.getpid()}")
    postgres.initialize(server, "", is_throw_away=True)
    log = (folder / "log").open("wb")
    process = subprocess.Popen([*server.command(), "-c", "fsync=off", "-c", "max_connections=200"], stdout=log, stderr=log)
    url = make_conninfo(user="postgres", dbname="postgres", host=str(server.socket_folder), port=postgres.PORT)
    try:
        wait_until_it_answers(url)
        yield url
    finally:
        process.terminate()
        process.wait(20)
        log.close()
        postgres.purge(folder / "data", tag=f"test-{os.getpid()}")
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_it_answers(url: str, limit_s: float = 30) -> None:
    until = time.monotonic() + limit_s
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


@pytest.fixture(name="wait_until_it_answers", scope="session")
def wait_until_it_answers_fixture():
    return wait_until_it_answers


@pytest.fixture(scope="session")
def template(server_url: str) -> str:
    """Name of the migrated template database."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    migrations.upgrade(make_conninfo(server_url, dbname=name), dict.fromkeys(migrations.LOGINS.values(), PASSWORD))
    return name


@contextlib.contextmanager
def migrated_database(server_url: str, template: str) -> Iterator[Database]:
    """Make a fresh migrated database; the books are audited when whoever asked for it is done."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        for role in migrations.LOGINS.values():
            admin.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(name), sql.Identifier(role)))
    admin_url = make_conninfo(server_url, dbname=name)
    yield Database(admin_url, *(login(admin_url, role, name) for role in migrations.LOGINS.values()), name)
    from ledger.money.audit import audit_at

    violated = [finding.rule for finding in audit_at(admin_url) if not finding.is_held]
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    assert not violated, f"the books do not hold: {violated}"


@pytest.fixture
def database(server_url: str, template: str) -> Iterator[Database]:
    """A fresh migrated database for one test."""
    with migrated_database(server_url, template) as made:
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

"""PostgreSQL for tests: a server of their own, a migrated template, and fresh databases made from it."""

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from serve_app.local import database as migrations
from serve_app.local import postgres

PASSWORD = "tests-only"
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 3 * 2**30


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


def memory_folder() -> Path | None:
    """A folder in memory, where there is room: a file system on a disk slows down with the thousands of files that come and go with databases."""
    try:
        has_room = shutil.disk_usage(MEMORY).free >= MEMORY_BYTES
    except OSError:
        return None
    return MEMORY if has_room and os.access(MEMORY, os.W_OK) else None


@contextmanager
def database_server(name: str = "test") -> Iterator[str]:
    """Admin URL of `GFE_TEST_DATABASE_URL`, or of the wheel's server, unsynced, in a folder of its own; each `name` is another server."""
    tag = f"{name}-{os.getpid()}"
    if given := os.environ.get("GFE_TEST_DATABASE_URL"):
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="gfe-", dir=memory_folder()))
    folder.chmod(0o755)
    server = postgres.locate(folder / "data", folder / "socket", tag=tag)
    postgres.initialize(server, "", is_throw_away=True)
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [*server.command(), "-c", "fsync=off", "-c", "max_wal_size=128MB", "-c", "max_connections=200"], stdout=log, stderr=log
    )
    url = make_conninfo(user="postgres", dbname="postgres", host=str(server.socket_folder), port=postgres.PORT)
    try:
        wait_until_it_answers(url)
        yield url
    finally:
        process.terminate()
        process.wait(60)
        log.close()
        postgres.purge(folder / "data", tag=tag)
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_it_answers(url: str, limit_s: float = 60) -> None:
    until = time.monotonic() + limit_s
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def migrated_template(server_url: str) -> str:
    """Make a migrated database that others are made from; answer its name."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    migrations.upgrade(make_conninfo(server_url, dbname=name), dict.fromkeys(migrations.LOGINS.values(), PASSWORD))
    return name


@contextmanager
def fresh_database(server_url: str, template: str) -> Iterator[Database]:
    """Make a database; its books are audited at the end."""
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

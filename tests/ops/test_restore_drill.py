"""The drill: everything is backed up, the database server is destroyed with its data, and a new one carries on from the file."""

import os
import shutil
import tempfile
import time
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ledger.client import Capture, Void
from serve_app.local import backup
from serve_app.local import database as migrations
from tests.databases import PASSWORD, Database, database_server, login
from tests.ledger.paying import deposit, send
from tests.ledger.people import sign_in, somebody
from tests.running_ledger import start_ledger

PASSWORDS = dict.fromkeys(migrations.LOGINS.values(), PASSWORD)
BALANCES = "SELECT address, posted, held FROM ledger.account ORDER BY address"
pytestmark = pytest.mark.skipif("GFE_TEST_DATABASE_URL" in os.environ, reason="the server is destroyed; a given one is not ours to destroy")


def database_of(server_url, name):
    admin_url = make_conninfo(server_url, dbname=name)
    return Database(admin_url, *(login(admin_url, role, name) for role in migrations.LOGINS.values()), name)


def balances(admin_url):
    with psycopg.connect(admin_url) as connection:
        return connection.execute(BALANCES).fetchall()


def everything(admin_url):
    """How many rows each table of both schemas has, but for what no backup keeps."""
    tables = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('ledger', 'serve_app') ORDER BY 1, 2"
    unlogged = "SELECT relname FROM pg_class WHERE relpersistence = 'u'"
    with psycopg.connect(admin_url) as connection:
        left_out = {row[0] for row in connection.execute(unlogged).fetchall()} | {"audit_sample"}
        return {
            (schema, table): connection.execute(sql.SQL("SELECT count(*) FROM {}.{}").format(sql.Identifier(schema), sql.Identifier(table))).fetchone()
            for schema, table in connection.execute(tables).fetchall()
            if table not in left_out
        }  # fmt: skip


@pytest.fixture
def folder():
    """The secrets, which are kept beside the backup; short, for the socket."""
    made = Path(tempfile.mkdtemp(prefix="gfe-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


async def settle(ledger, key, *, cost_tokens):
    held = await ledger.client.place_hold(ledger.hold(key=key))
    await ledger.client.capture(
        Capture(
            id=held.id,
            outcome="succeeded",
            prompt_tokens=10,
            completion_tokens=cost_tokens,
            counted_by="platform",
            node="node_local",
            attempt=1,
        )
    )


async def test_a_destroyed_server_is_replaced_from_the_backup_and_nobody_lost_a_credit(tmp_path, folder, figure):
    file = tmp_path / "copy"
    with database_server("first") as first:
        database = database_of(first, "gfe")
        migrations.upgrade(database.admin_url, PASSWORDS)
        ledger, stop = await start_ledger(database, folder)
        try:
            ada = await somebody(ledger, "ada")
            key = await ada.key()
            for number in range(20):
                await settle(ledger, key, cost_tokens=number)
            given_back = await ledger.client.place_hold(ledger.hold(key=key))
            await ledger.client.void(Void(id=given_back.id, reason="test"))
            still_open = await ledger.client.place_hold(ledger.hold(key=key))
            assert (await send(ledger, (await deposit(ledger)).json())).status_code == 200
            size = backup.backup(database.admin_url, file)
            before, rows = balances(database.admin_url), everything(database.admin_url)
            wallet = (await ada.get("/api/payments/wallet/")).json()
        finally:
            await stop()
    with pytest.raises(psycopg.OperationalError):  # it is gone, with its data
        psycopg.connect(database.admin_url, connect_timeout=2)

    began = time.monotonic()
    with database_server("second") as second:
        started_s = time.monotonic() - began
        url = backup.restore(make_conninfo(second, dbname="postgres"), file, "gfe_restored", passwords=PASSWORDS)
        is_held, said = backup.audit(url)
        restored_s = time.monotonic() - began - started_s
        assert is_held, said
        assert balances(url) == before
        assert everything(url) == rows
        figure("drill", "restored and proven", f"{restored_s:.1f} s for {size / 1024:.0f} KiB; a new server before that {started_s:.1f} s")

        ledger, stop = await start_ledger(database_of(second, "gfe_restored"), folder)
        try:
            again = await sign_in(ledger, "ada")
            assert again.status_code == 200
            ada.ledger, ada.tokens = ledger, again.json()
            assert (await ada.get("/api/payments/wallet/")).json() == wallet
            await settle(ledger, key, cost_tokens=3)  # the key is known, and the books go on
            await ledger.client.void(Void(id=still_open.id, reason="after the restore"))
        finally:
            await stop()
        is_held, said = backup.audit(url)
        assert is_held, said

"""A backup is good when what comes out of it proves itself."""

import psycopg
import pytest

from serve_app.local import backup
from serve_app.local.database import LOGINS
from serve_app.local.errors import Refused
from tests.ledger.people import somebody

PASSWORDS = dict.fromkeys(LOGINS.values(), "test-only")


@pytest.fixture
def copy_name(database, server_url):
    name = f"{database.name}_copy"
    yield name
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def contents(url):
    with psycopg.connect(url) as connection:
        tables = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'ledger' ORDER BY 1").fetchall()]
        unlogged = {row[0] for row in connection.execute("SELECT relname FROM pg_class WHERE relpersistence = 'u'").fetchall()}
        return {
            table: sorted(map(str, connection.execute(f"SELECT * FROM ledger.{table}").fetchall()))
            for table in tables
            if table not in unlogged
        }


async def test_a_restored_copy_has_everything_and_passes_the_audit(ledger, database, tmp_path, copy_name):
    ada = await somebody(ledger)
    key = await ada.key(budget_total="2.00")
    await ledger.client.place_hold(ledger.hold(key=key))
    with psycopg.connect(database.admin_url) as admin:
        admin.execute(
            "INSERT INTO ledger.audit_sample (job_id, node_id, model, model_digest, weights_sha256, rule_inputs, sealed) "
            "VALUES (gen_random_uuid(), 'node_local', 'm', '', '', '{}', 'what is promised to go')"
        )
    assert backup.backup(database.admin_url, tmp_path / "copy") > 10_000
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0
    url = backup.restore(database.admin_url, tmp_path / "copy", copy_name, passwords=PASSWORDS)
    assert contents(url) == contents(database.admin_url)
    is_held, said = backup.audit(url)
    assert is_held, said
    with psycopg.connect(url, user="gfe_ledger", password="test-only") as service:
        assert service.execute("SELECT count(*) FROM ledger.hold").fetchone() == (1,)
        assert service.execute("SELECT count(*) FROM ledger.audit_sample").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute("UPDATE ledger.account SET posted = 0")


async def test_a_copy_with_a_broken_balance_does_not_pass(ledger, database, tmp_path, copy_name):
    backup.backup(database.admin_url, tmp_path / "copy")
    url = backup.restore(database.admin_url, tmp_path / "copy", copy_name, passwords=PASSWORDS)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("UPDATE ledger.account SET posted = posted + 1 WHERE address LIKE '%:promo'")
    is_held, said = backup.audit(url)
    assert not is_held
    assert "VIOLATED" in said


def test_what_is_no_backup_is_refused_and_leaves_no_database(database, server_url, tmp_path, copy_name):
    (tmp_path / "copy").write_text("nothing")
    with pytest.raises(Refused):
        backup.restore(database.admin_url, tmp_path / "copy", copy_name, passwords=PASSWORDS)
    with psycopg.connect(server_url) as admin:
        assert admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [copy_name]).fetchone() is None


def test_an_existing_database_is_never_touched(database, tmp_path):
    backup.backup(database.admin_url, tmp_path / "copy")
    with pytest.raises(Refused, match="already"):
        backup.restore(database.admin_url, tmp_path / "copy", database.name, passwords=PASSWORDS)
    with pytest.raises(Refused, match="no such file"):
        backup.restore(database.admin_url, tmp_path / "missing", "other", passwords=PASSWORDS)

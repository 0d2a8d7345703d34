"""Checks of an installation's database: it answers, has the newest shape, and each login may do what it should and no more."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql

from serve_app.checkup.finding import Finding
from serve_app.local.database import LOGINS, SCHEMAS

CONNECT_LIMIT_S = 5
# What no login of a service may have; each asked of the server for each login.
TOO_MUCH = {
    "is a superuser": "SELECT rolsuper FROM pg_roles WHERE rolname = %(login)s",
    "may make roles or databases": "SELECT rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = %(login)s",
    "passes over row security": "SELECT rolbypassrls OR rolreplication FROM pg_roles WHERE rolname = %(login)s",
    "owns something": "SELECT EXISTS (SELECT FROM pg_class WHERE relowner = to_regrole(%(login)s))",
    "is a member of an owner": (
        "SELECT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles o ON o.oid = m.roleid WHERE m.member = to_regrole(%(login)s) "
        "AND (o.rolname LIKE 'gfe%%owner' OR o.rolsuper))"
    ),
    "sees another's schema": (
        "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = ANY (%(others)s) AND has_schema_privilege(%(login)s, oid, 'USAGE'))"
    ),
}
PUBLIC_CONNECTS = "SELECT has_database_privilege('public', current_database(), 'CONNECT')"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was learned of a database on the way; `ahead_s`: its clock against ours."""

    findings: tuple[Finding, ...]
    ahead_s: float | None = None


def check(admin_url: str, logins: Mapping[str, str]) -> Seen:
    """Check a database through its administrator's URL; `logins`: URLs of the services by the names of `LOGINS`."""
    try:
        with psycopg.connect(admin_url, connect_timeout=CONNECT_LIMIT_S) as admin:
            before = time.time()
            row = admin.execute("SELECT extract(epoch FROM clock_timestamp())::float8, current_setting('server_version')").fetchone()
            assert row is not None
            ahead = float(row[0]) - (before + time.time()) / 2
            answers = Finding("database", True, f"PostgreSQL {row[1]} answers")
            return Seen((answers, _shape(admin), _rights(admin), _logins(logins)), ahead)
    except psycopg.OperationalError as failed:
        why = (str(failed).strip().splitlines() or ["no answer"])[0]
        return Seen((Finding("database", False, f"does not answer: {why}", "`gfe status` tells whether PostgreSQL runs"),))


def newest(schema: str) -> str:
    """Name the newest migration of a schema that this version brings."""
    config = Config()
    config.set_main_option("script_location", f"{schema}:migrations")
    config.set_main_option("path_separator", "os")
    return str(ScriptDirectory.from_config(config).get_current_head())


def _shape(admin: psycopg.Connection) -> Finding:
    behind = []
    for schema, _, _ in SCHEMAS:
        try:
            row = admin.execute(sql.SQL("SELECT version_num FROM {}.alembic_version").format(sql.Identifier(schema))).fetchone()
        except psycopg.errors.UndefinedTable:
            admin.rollback()
            row = None
        has = str(row[0]) if row else "nothing"
        if has != newest(schema):
            behind.append(f"{schema} has {has}, this version brings {newest(schema)}")
    return Finding("migrations", not behind, "; ".join(behind) or "the newest of both schemas", "gfe db upgrade")


def _rights(admin: psycopg.Connection) -> Finding:
    found = list(_too_much(admin))
    said = "; ".join(found) or "each login has its own, and no more"
    return Finding("rights", not found, said, "gfe db upgrade sets them; look who changed them (the server's log)")


def _too_much(admin: psycopg.Connection) -> Iterator[str]:
    for schema, _, logins in SCHEMAS:
        others = [name for name, _, _ in SCHEMAS if name != schema]
        for login in logins:
            if admin.execute("SELECT to_regrole(%s)", [login]).fetchone() == (None,):
                yield f"{login} does not exist"
                continue
            for what, question in TOO_MUCH.items():
                if admin.execute(question, {"login": login, "others": others}).fetchone() == (True,):
                    yield f"{login} {what}"
    if admin.execute(PUBLIC_CONNECTS).fetchone() == (True,):
        yield "every login of the server may connect"


def _logins(urls: Mapping[str, str]) -> Finding:
    refused = []
    for name, role in LOGINS.items():
        try:
            psycopg.connect(urls[name], connect_timeout=CONNECT_LIMIT_S).close()
        except (KeyError, psycopg.OperationalError) as failed:
            why = "its URL is not there" if isinstance(failed, KeyError) else str(failed).strip().splitlines()[-1]
            refused.append(f"{role}: {why}")
    return Finding(
        "logins", not refused, "; ".join(refused) or "all services get in", "gfe db upgrade sets their passwords to those in the secrets"
    )

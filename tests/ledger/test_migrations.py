"""The database's shape: from nothing to the newest, and from the one before with people and money in it."""

import io
import uuid
from contextlib import contextmanager

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from ledger.db import connect
from ledger.money.audit import audit_at
from ledger.money.posting import Kind, Post, Status, apply
from serve_app.local import database as migrations

PASSWORD = "tests-only"


def shape_of(url):
    """Tables, columns, indexes, functions and rights of the ledger's schema."""
    with psycopg.connect(url) as connection:
        return [
            connection.execute(query).fetchall()
            for query in (
                "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns WHERE table_schema = 'ledger' ORDER BY 1, 2",
                "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'ledger' ORDER BY 1",
                "SELECT proname, md5(prosrc), prosecdef FROM pg_proc WHERE pronamespace = 'ledger'::regnamespace ORDER BY 1",
                "SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants WHERE table_schema = 'ledger' ORDER BY 1, 2, 3",
            )
        ]


def upgrade_to(url, revision):
    """Run the ledger's migrations up to one, as the product does up to the last."""
    engine = create_engine(make_url("postgresql+psycopg://"), creator=lambda: psycopg.connect(url), poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET ROLE gfe_ledger_owner")
        connection.commit()
        config = Config(stdout=io.StringIO())
        config.set_main_option("script_location", "ledger:migrations")
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()
    engine.dispose()


OLD_PEOPLE = """
INSERT INTO ledger.person (id, username, role) SELECT gen_random_uuid(), 'Person' || n, 'USER' FROM generate_series(1, 50) n;
INSERT INTO ledger.price (flat, prompt_per_million, completion_per_million) VALUES (1000000, 0, 0);
SELECT ledger.open_accounts(ARRAY['world:test'], ARRAY[1]::smallint[], ARRAY[NULL]::bigint[], ARRAY[true]);
SELECT ledger.open_accounts(array_agg('consumer:' || id || ':paid'), array_agg(1::smallint), array_agg(0::bigint), array_agg(false)) FROM ledger.person;
INSERT INTO ledger.api_key (id, person_id, mac, name, scopes) SELECT left(md5(id::text), 8), id, '\\x00', 'old', '{jobs:write}' FROM ledger.person;
INSERT INTO ledger.node (id, person_id, name, kind) SELECT 'node_' || username, id, 'n', 'trusted' FROM ledger.person;
"""


async def deposit_to_everybody(url, micros):
    connection = await connect(url, name="test")
    cursor = await connection.execute("SELECT id FROM ledger.account WHERE address LIKE 'consumer:%'")
    pockets = [row[0] for row in await cursor.fetchall()]
    cursor = await connection.execute("SELECT id FROM ledger.account WHERE address = 'world:test'")
    (world,) = await cursor.fetchone()
    posts = [Post(id=uuid.uuid4(), kind=Kind.DEPOSIT, legs=((world, -micros), (pocket, micros))) for pocket in pockets]
    assert set(await apply(connection, posts)) == {Status.OK}
    await connection.close()


@contextmanager
def old_database(server_url, revision):
    """A database of its own at an earlier revision; answers its URL."""
    name = f"old_{uuid.uuid4().hex[:8]}"
    url = make_conninfo(server_url, dbname=name)
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        with migrations._locked(url) as admin:
            migrations._create_roles(admin, dict.fromkeys(migrations.LOGINS.values(), PASSWORD))
        upgrade_to(url, revision)
        yield url
    finally:
        with psycopg.connect(server_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


async def test_the_shape_before_with_people_and_money_becomes_the_newest_and_the_books_hold(server_url, database):
    with old_database(server_url, "0002") as url:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(OLD_PEOPLE)
        await deposit_to_everybody(url, 5_000_000)
        migrations.upgrade(url, dict.fromkeys(migrations.LOGINS.values(), PASSWORD))
        assert shape_of(url) == shape_of(database.admin_url)
        assert [found.rule for found in audit_at(url) if not found.is_held] == []
        with psycopg.connect(url) as admin:
            assert admin.execute("SELECT count(*), count(DISTINCT name_key) FROM ledger.person").fetchone() == (50, 50)
            assert admin.execute("SELECT name_key FROM ledger.person WHERE username = 'Person7'").fetchone() == ("person7",)
            assert admin.execute("SELECT sum(posted) FROM ledger.account WHERE address LIKE 'consumer:%'").fetchone() == (250_000_000,)


OLD_VERDICTS = """
INSERT INTO ledger.person (id, username, name_key, role) VALUES (gen_random_uuid(), 'p', 'p', 'USER');
INSERT INTO ledger.node (id, person_id, name, kind) SELECT 'node_a', id, 'n', 'edge' FROM ledger.person;
INSERT INTO ledger.audit_verdict (job_id, node_id, is_flagged, rule, score, windows, tokens, detail, model, model_digest, weights_sha256)
SELECT gen_random_uuid(), 'node_a', model = 'bad' AND n = 1, 'A', 0, 1, 32, '', model, 'd', 'd' FROM generate_series(1, 20) n, unnest(ARRAY['good', 'bad']) model
UNION ALL SELECT gen_random_uuid(), 'node_a', false, 'A', 0, 1, 32, '', 'few', 'd', 'd' FROM generate_series(1, 19) n;
"""


def test_models_that_had_passed_many_audits_are_admitted(server_url):
    with old_database(server_url, "0008") as url:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(OLD_VERDICTS)
        migrations.upgrade(url, dict.fromkeys(migrations.LOGINS.values(), PASSWORD))
        with psycopg.connect(url) as admin:
            assert admin.execute("SELECT model, digest, state FROM ledger.admission").fetchall() == [("good", "d", "admitted")]


def test_upgrading_again_changes_nothing(database):
    before = shape_of(database.admin_url)
    migrations.upgrade(database.admin_url, dict.fromkeys(migrations.LOGINS.values(), PASSWORD))
    assert shape_of(database.admin_url) == before

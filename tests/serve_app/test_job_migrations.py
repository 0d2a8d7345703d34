"""Jobs that were there before the newest shape of the database keep what they are, and are counted."""

import io
import json

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from serve_app.db import Line
from serve_app.store.counts import Counts, Totals
from serve_app.store.pages import JobPages

OLD_JOBS = """
WITH job AS (
  INSERT INTO serve_app.job (id, user_id, username, key_id, kind, model, node, held, is_sync, state, cost, completion_tokens, created_at, ended_at)
  SELECT gen_random_uuid(), 'user_a', 'a', 'k', 'chat', 'm', 'node_a', 1, true, state, cost, 7, now() - make_interval(secs => nr),
         CASE WHEN state >= 2 THEN now() END
    FROM unnest(%s::smallint[], %s::bigint[]) WITH ORDINALITY AS u(state, cost, nr) RETURNING id, created_at),
numbered AS (SELECT id, row_number() OVER (ORDER BY created_at DESC) AS nr FROM job)
INSERT INTO serve_app.job_text (job_id, request) SELECT id, request FROM numbered JOIN unnest(%s::text[]) WITH ORDINALITY AS r(request, nr) USING (nr)
"""
REQUESTS = [
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "p" * 100}]},
    {"prompt": "generated"},
    {"messages": [{"role": "user", "content": "a\0b"}]},
    {"messages": [{"role": "user", "content": "half \ud800"}]},
    {"input": ["embedded"]},
]


def migrate(url, step):
    engine = create_engine(make_url("postgresql+psycopg://"), creator=lambda: psycopg.connect(url), poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET ROLE gfe_serve_owner")
        connection.commit()
        config = Config(stdout=io.StringIO())
        config.set_main_option("script_location", "serve_app:migrations")
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        step(config)
        connection.commit()
    engine.dispose()


@pytest.fixture
async def line(database):
    opened = Line(database.serve_url, name="test")
    yield opened
    await opened.drop()


async def test_jobs_from_before_are_listed_and_counted(database, line):
    migrate(database.admin_url, lambda config: command.downgrade(config, "0003"))
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(OLD_JOBS, ([2, 2, 3, 4, 0], [1, 1, 0, 1, None], [json.dumps(one) for one in REQUESTS]))
    migrate(database.admin_url, lambda config: command.upgrade(config, "head"))
    page = await JobPages(line).page("user_a", 10)
    assert [job.prompt for job in page] == ["p" * 80, "generated", "", "", ""]
    counts = Counts(line)
    assert await counts.totals() == Totals(jobs=5, completed=2)
    (served,) = await counts.served(["node_a"], 1)
    assert (served.served, served.completed, served.failed, served.canceled, served.completion_tokens) == (3, 2, 1, 1, 28)
    assert await counts.has_run("m")
    assert not await counts.has_run("n")

"""What everybody may see (L2, L3): models and four figures; no node, no job, no person but who offers."""

import asyncio
import json

import psycopg
import pytest

from serve_app.kept import KeptAnswers
from tests.ledger.people import somebody
from tests.serve_app.consumers import Consumer, anonymous
from tests.serve_app.test_nodes import own_node
from tests.waiting import until

MODELS, STATS = "/api/computing/models/", "/api/computing/stats/"


@pytest.fixture
async def platform(platform_with):
    running = await platform_with(credits="100.00", nodes=2)
    await running.context.feed.poll()
    return running


async def fresh(platform, path):
    platform.context.kept = KeptAnswers()
    answer = await anonymous(platform).get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def row_of(said, name):
    return next((row for row in said["models"] if row["name"] == name), None)


async def test_a_model_tells_who_offers_it_and_what_it_costs(platform, database):
    """L2."""
    bob = await somebody(platform.ledger, "bob")
    await own_node(platform, database, bob.headers, "node_1")
    said = await fresh(platform, MODELS)
    assert said["total_nodes"] == 2
    row = row_of(said, "fake:words=3")
    assert set(row) == {"name", "providers", "nodes", "online", "context_tokens", "price"}
    assert (row["nodes"], row["online"], "bob" in row["providers"]) == (2, True, True)
    [node] = (await Consumer(platform, bob.headers).get("/api/computing/nodes/")).json()["results"]
    assert row["context_tokens"] == next(model["context_tokens"] for model in node["models"] if model["name"] == row["name"]) > 0
    assert row["price"] == {"job": "1.00", "prompt_per_million": "0.00", "completion_per_million": "0.00"}
    assert [one["name"] for one in said["models"]] == sorted(one["name"] for one in said["models"])


async def test_no_node_is_named_to_the_public(platform):
    """L2."""
    for path in (MODELS, STATS):
        assert "node_" not in json.dumps(await fresh(platform, path)).replace("total_nodes", "").replace("active_nodes", "")


@pytest.mark.parametrize("state", ["paused", "revoked", "banned", "deregistered"])
async def test_a_node_that_takes_no_jobs_offers_nothing(platform, database, state):
    """S24: lists show only nodes that are online now."""
    bob = await somebody(platform.ledger, "bob")
    await own_node(platform, database, bob.headers, "node_1", state=state)
    said = await fresh(platform, MODELS)
    assert (said["total_nodes"], row_of(said, "fake:words=3")["nodes"]) == (1, 1)
    assert (await fresh(platform, STATS))["active_nodes"] == 1


async def test_a_model_of_the_catalog_without_a_node_is_there_and_not_online(platform):
    platform.context.feed.catalog.digests["later:latest"] = "0" * 64
    row = row_of(await fresh(platform, MODELS), "later:latest")
    assert (row["nodes"], row["online"], row["providers"], row["context_tokens"]) == (0, False, [], None)


async def test_figures_are_counted_as_jobs_end_and_no_job_is_read_for_them(platform, database):
    """L3."""
    consumer = Consumer(platform)
    before = await fresh(platform, STATS)
    assert (before["active_nodes"], before["total_jobs"], before["completed_jobs"]) == (2, 0, 0)
    assert before["available_models"] == sum(row["online"] for row in (await fresh(platform, MODELS))["models"])
    names = await asyncio.gather(
        *(consumer.submitted(model=model) for model in ["fake:words=3"] * 4 + ["fake:words=16"] * 2 + ["fake:500"] * 3)
    )
    for name in names:
        await consumer.ended(name)
    waiting = await consumer.submitted(model="fake:hang@0")
    said = await fresh(platform, STATS)
    assert (said["total_jobs"], said["completed_jobs"]) == (10, 6)
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        counted = admin.execute("SELECT count(*), count(*) FILTER (WHERE state = 2) FROM serve_app.job").fetchone()
        assert counted == (10, 6)
        admin.execute("DELETE FROM serve_app.job_text; DELETE FROM serve_app.job WHERE state >= 2")
    assert (await fresh(platform, STATS))["total_jobs"] == 10
    await consumer.call("DELETE", f"/api/computing/jobs/{waiting}/")


async def test_an_end_that_is_written_twice_is_counted_once(platform):
    """L3: the outcome of a write may be unknown; it is repeated."""
    consumer = Consumer(platform)
    query, repeated = platform.context.writer._line.query, []

    async def twice(statement, parameters=()):
        rows = await query(statement, parameters)
        if "serve_app.tally" in statement:
            repeated.append(await query(statement, parameters))
        return rows

    platform.context.writer._line.query = twice
    await consumer.ended(await consumer.submitted())
    await until(lambda: repeated)
    assert repeated == [[]]
    said = await fresh(platform, STATS)
    assert (said["total_jobs"], said["completed_jobs"]) == (1, 1)


@pytest.mark.parametrize("path", [MODELS, STATS])
async def test_it_is_made_once_in_five_seconds_for_all_who_ask(platform, path):
    """L2: cached 5 s."""
    platform.context.kept = KeptAnswers()
    stranger = anonymous(platform)
    answers = await asyncio.gather(*(stranger.get(path) for _ in range(10)))
    assert {answer.headers["cache-control"] for answer in answers} == {"public, max-age=5"}
    before = answers[0].json()
    platform.context.view.workers = platform.workers[:1]
    assert (await stranger.get(path)).json() == before
    assert await fresh(platform, path) != before


async def test_what_cannot_be_made_is_not_kept():
    kept, tries = KeptAnswers(), []

    async def make():
        tries.append(1)
        if len(tries) == 1:
            raise ValueError
        return len(tries)

    with pytest.raises(ValueError):  # noqa: PT011 - ours
        await kept.get("x", 5, make)
    assert await kept.get("x", 5, make) == 2
    assert await kept.get("x", 5, make) == 2
    assert await kept.get("x", -1, make) == 3


async def test_a_cluster_that_cannot_be_seen_is_told_as_such(platform, monkeypatch):
    from cluster.errors import ClusterUnreachable

    class Blind:
        @property
        def snapshot(self):
            raise ClusterUnreachable

    platform.context.kept = KeptAnswers()
    seeing, platform.context.view = platform.context.view, Blind()
    for path in (MODELS, STATS):
        answer = await anonymous(platform).get(path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    platform.context.view = seeing

"""What a provider's machines did (L5, Serve's half), and which of them are here (S42)."""

import asyncio

import psycopg
import pytest

from tests.ledger.people import somebody
from tests.serve_app.consumers import Consumer
from tests.serve_app.test_nodes import own_node

PATH = "/api/computing/provider-stats/"


@pytest.fixture
async def market(platform_with, database):
    platform = await platform_with(credits="100.00", nodes=2)
    bob = await somebody(platform.ledger, "bob")
    await own_node(platform, database, bob.headers, "node_1")
    platform.bob = Consumer(platform, bob.headers)
    return platform


async def stats(market, consumer=None, **query):
    answer = await (consumer or market.bob).get(PATH, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_jobs_on_the_own_nodes_are_counted_by_how_they_ended(market):
    """L5, D29."""
    consumer = Consumer(market)
    models = ["fake:words=3"] * 3 + ["fake:words=16"] + ["fake:garbage"]
    ends = [await consumer.ended(await consumer.submitted(model=model, provider="bob")) for model in models]
    canceled = await consumer.submitted(model="fake:hang@2", provider="bob")
    await consumer.reaches(canceled, "RUNNING")
    while not market.workers[1]._attempts[canceled, 1].log.next_seq > 2:
        await asyncio.sleep(0.01)
    await consumer.call("DELETE", f"/api/computing/jobs/{canceled}/")
    await consumer.ended(canceled)
    said = await stats(market)
    assert [row["status"] for row in ends] == ["COMPLETED"] * 4 + ["FAILED"]
    assert (said["days"], said["jobs"], said["completed"], said["failed"], said["canceled"]) == (30, 5, 4, 1, 1)
    assert said["success_rate"] == 0.8
    assert said["nodes"] == {"total": 1, "online": 1}
    by_model = {row["model"]: row for row in said["by_model"]}
    assert {name: row["jobs"] for name, row in by_model.items()} == {
        "fake:words=3": 3,
        "fake:words=16": 1,
        "fake:garbage": 0,
        "fake:hang@2": 1,
    }
    assert by_model["fake:words=3"]["completion_tokens"] == 9
    assert by_model["fake:hang@2"]["success_rate"] is None


async def test_jobs_elsewhere_and_of_others_are_not(market, database):
    consumer = Consumer(market)
    await consumer.ended(await consumer.submitted(provider="node_local"))
    assert (await stats(market))["jobs"] == 0
    said = await stats(market, consumer)
    assert (said["jobs"], said["by_model"], said["success_rate"], said["nodes"]) == (0, [], None, {"total": 0, "online": 0})


@pytest.mark.parametrize(("days", "jobs"), [(1, 1), (7, 2), (30, 3), (365, 4)])
async def test_only_the_days_that_are_asked_for_count(market, database, days, jobs):
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "INSERT INTO serve_app.node_day SELECT 'node_1', (clock_timestamp() AT TIME ZONE 'UTC')::date - ago, 'm', 0, 1, 1, 0, 0, 5 "
            "FROM unnest(ARRAY[0, 6, 29, 364, 365]) ago"
        )
    assert (await stats(market, days=days))["jobs"] == jobs


@pytest.mark.parametrize("days", ["abc", "99999999999", "0", "366", "-1", "1.5", "", "٣", "1e2"])
async def test_days_that_are_none_are_refused(market, days):
    """D21: `days=abc` and `days=99999999999` by name."""
    answer = await market.bob.get(PATH, params={"days": days})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["days"])


async def test_a_node_that_was_deregistered_keeps_its_history(market, database):
    """S42."""
    consumer = Consumer(market)
    await consumer.ended(await consumer.submitted(provider="bob"))
    await own_node(market, database, market.bob.headers, "node_1", state="deregistered")
    said = await stats(market)
    assert (said["jobs"], said["nodes"]["total"]) == (1, 0)


async def test_own_nodes_are_listed_whether_they_are_here_or_not(market, database):
    """S42, S23: live state of each."""
    for n in range(2, 5):
        await own_node(market, database, market.bob.headers, f"node_{n}", kind="edge")
    answer = (await market.bob.get("/api/computing/nodes/")).json()
    assert {row["id"]: row["online"] for row in answer["results"]} == {"node_1": True, "node_2": False, "node_3": False, "node_4": False}
    here, away = answer["results"][0], answer["results"][1]
    assert set(here) == set(away)
    assert (here["provider"], here["slots"], bool(here["models"])) == ("bob", 2, True)
    assert (away["provider"], away["kind"], away["reason"], away["models"]) == ("bob", "edge", "it is not connected", [])
    await own_node(market, database, market.bob.headers, "node_2", state="deregistered")
    assert len((await market.bob.get("/api/computing/nodes/")).json()["results"]) == 3


async def test_own_nodes_come_in_pages(market, database):
    """D33."""
    for n in range(2, 7):
        await own_node(market, database, market.bob.headers, f"node_{n}", kind="edge")
    seen, cursor = [], None
    while True:
        page = (await market.bob.get("/api/computing/nodes/", params={"limit": 4} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [row["id"] for row in page["results"]]
        if (cursor := page["next"]) is None:
            break
    assert seen == [f"node_{n}" for n in range(1, 7)]
    for query in ({"limit": 0}, {"cursor": "x"}, {"cursor": "WzEsMl0"}, {"cursor": "e30"}):
        assert (await market.bob.get("/api/computing/nodes/", params=query)).status_code == 400


async def test_a_new_name_is_known_after_the_next_poll(market):
    answer = await market.ledger.http.patch("/api/core/nodes/node_1/", json={"name": "garage"}, headers=market.bob.headers)
    assert answer.status_code == 200
    await market.context.feed.poll()
    assert market.context.feed.nodes["node_1"].name == "garage"

"""Nodes through the API: whose they are, who may see and drain them, and what the ledger's feed changes."""

import asyncio

import pytest

from cluster.service_tokens import ServiceTokens
from tests.edge_agent import execute
from tests.ledger.people import bearer, somebody


@pytest.fixture
async def platform(platform_with):
    running = await platform_with(credits="100.00", nodes=2)
    await running.context.feed.poll()
    return running


def operator(platform):
    tokens = ServiceTokens((platform.ledger.folder / "service_serve.pem").read_bytes(), "gfe")
    return bearer(tokens.mint("operator"))


async def test_an_operator_lists_shows_drains_and_resumes(platform):
    listed = (await platform.http.get("/api/admin/nodes/", headers=operator(platform))).json()["results"]
    assert {row["id"] for row in listed} == {"node_local", "node_1"}
    assert {row["slots"] for row in listed} == {2}
    drained = await platform.http.post("/api/admin/nodes/node_1/drain/", headers=operator(platform))
    assert (drained.status_code, drained.json()["draining"]) == (200, True)
    assert (await platform.http.get("/api/admin/nodes/node_1", headers=operator(platform))).json()["reason"] == "draining"
    for _ in range(4):
        answer = await platform.chat()
        assert (await platform.job(answer.headers["X-GFE-Job"]))["node"]["id"] == "node_local"
    await platform.http.post("/api/admin/nodes/node_1/resume/", headers=operator(platform))
    async with asyncio.timeout(60):
        while not platform.workers[1].node.is_healthy or platform.workers[1].node.is_draining:
            await asyncio.sleep(0.02)
    shown = (await platform.http.get("/api/admin/nodes/node_1/", headers=operator(platform))).json()
    assert (shown["draining"], shown["healthy"], shown["reason"]) == (False, True, "")


async def test_nobody_else_drains_a_node(platform):
    ada = await somebody(platform.ledger)
    for headers in ({}, platform.bearer, ada.headers, bearer("a.b.c")):
        for method, path in (("GET", "/api/admin/nodes/"), ("POST", "/api/admin/nodes/node_1/drain/")):
            answer = await platform.http.request(method, path, headers=headers)
            assert answer.status_code in {401, 403}, (headers, answer.text)
    wrong = ServiceTokens((platform.ledger.folder / "service_edge.pem").read_bytes(), "gfe")
    answer = await platform.http.get("/api/admin/nodes/", headers=bearer(wrong.mint("operator")))
    assert answer.status_code == 401
    own = ServiceTokens((platform.ledger.folder / "service_serve.pem").read_bytes(), "gfe")
    assert (await platform.http.get("/api/admin/nodes/", headers=bearer(own.mint("node")))).status_code == 401
    assert not any(worker.node.is_draining for worker in platform.workers)


async def test_an_unknown_node_is_404(platform):
    answer = await platform.http.get("/api/admin/nodes/nobody/", headers=operator(platform))
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def own_node(platform, database, owner_headers, node, kind="edge", state="active"):
    """Register a running node as somebody's; tell it as the ledger does."""
    profile = (await platform.ledger.http.get("/api/core/profile/", headers=owner_headers)).json()
    from ledger.identity.feed import tell_node
    from ledger.ids import uuid_of

    execute(
        database,
        "INSERT INTO ledger.node (id, person_id, name, kind, state) VALUES (%s, %s, 'n', %s, %s) "
        "ON CONFLICT (id) DO UPDATE SET person_id = excluded.person_id, kind = excluded.kind, state = excluded.state",
        [node, uuid_of("user", profile["id"]), kind, state],
    )
    await platform.ledger.context.database.transact(lambda connection: tell_node(connection, node))
    await platform.context.feed.poll()


async def test_a_provider_sees_the_own_nodes_alone_and_a_consumer_is_not_served_by_them(platform, database):
    ada = await somebody(platform.ledger)
    await own_node(platform, database, ada.headers, "node_1")
    seen = (await platform.http.get("/api/computing/nodes/", headers=ada.headers)).json()["results"]
    assert [row["id"] for row in seen] == ["node_1"]
    assert (await platform.http.get("/api/computing/nodes/", headers=platform.bearer)).json()["results"] == []
    for _ in range(6):
        answer = await platform.http.post("/v1/chat/completions", json=platform.body(), headers=ada.headers)
        job = (await platform.http.get(f"/api/computing/jobs/{answer.headers['X-GFE-Job']}/", headers=ada.headers)).json()
        assert job["node"]["id"] == "node_local"
    await own_node(platform, database, ada.headers, "node_1", kind="trusted")
    served = set()
    for _ in range(20):
        answer = await platform.http.post("/v1/chat/completions", json=platform.body(), headers=ada.headers)
        job = (await platform.http.get(f"/api/computing/jobs/{answer.headers['X-GFE-Job']}/", headers=ada.headers)).json()
        served.add(job["node"]["id"])
    assert served == {"node_local", "node_1"}


async def test_a_paused_node_gets_no_jobs(platform, database):
    ada = await somebody(platform.ledger)
    await own_node(platform, database, ada.headers, "node_1", kind="trusted", state="paused")
    for _ in range(6):
        answer = await platform.chat()
        assert (await platform.job(answer.headers["X-GFE-Job"]))["node"]["id"] == "node_local"


async def test_a_revoked_key_is_forgotten_when_the_feed_tells(platform):
    ada = await somebody(platform.ledger)
    key = await ada.key()
    assert (await platform.http.get("/api/computing/nodes/", headers=bearer(key))).status_code == 200
    await ada.call("DELETE", f"/api/core/keys/{key.split('_')[2]}/")
    await platform.context.feed.poll()
    assert (await platform.http.get("/api/computing/nodes/", headers=bearer(key))).status_code == 401


async def test_a_silent_ledger_changes_nothing_that_is_known(platform, database):
    from ledger.client import LedgerUnavailable

    ada = await somebody(platform.ledger)
    await own_node(platform, database, ada.headers, "node_1")
    known = dict(platform.context.feed.nodes)

    class Silent:
        async def feed(self, after, limit=1):
            raise LedgerUnavailable

    platform.context.feed._ledger = Silent()
    with pytest.raises(LedgerUnavailable):
        await platform.context.feed.poll()
    assert platform.context.feed.nodes == known


async def test_a_key_for_trusted_machines_is_served_by_no_other(platform):
    from dataclasses import replace

    from cluster.nodes import NodeKind

    platform.workers[0]._node = replace(platform.workers[0]._node, kind=NodeKind.EDGE)
    ada = await somebody(platform.ledger)
    key = await ada.key(privacy="trusted")
    for _ in range(6):
        answer = await platform.http.post("/v1/chat/completions", json=platform.body(), headers=bearer(key))
        job = (await platform.http.get(f"/api/computing/jobs/{answer.headers['X-GFE-Job']}/", headers=bearer(key))).json()
        assert job["node"]["id"] == "node_1"

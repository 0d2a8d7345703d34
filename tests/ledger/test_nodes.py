"""Nodes of an account: named, paused, taken out; never anybody else's."""

import asyncio
import uuid

import pytest

from ledger.client import Capture
from ledger.errors import NotFound, OwnNode
from ledger.identity.nodes import NodeOwners
from ledger.identity.people import post_welcome
from tests.edge_agent import Agent, account, execute


@pytest.fixture
async def owner(ledger, database):
    return await account(ledger, database, "owner")


async def test_a_node_is_renamed_paused_and_resumed(owner, database):
    _, node = await owner.enrolled(label="attic")
    steps = [({"name": "cellar"}, "cellar", "active"), ({"state": "paused"}, "cellar", "paused"), ({"state": "active", "name": "roof"}, "roof", "active"), ({}, "roof", "active")]  # fmt: skip
    for body, name, state in steps:
        answer = await owner.call("PATCH", f"nodes/{node}/", json=body)
        assert (answer.status_code, answer.json()["name"], answer.json()["state"]) == (200, name, state)
        assert answer.json() == (await owner.nodes())[0]
    told = execute(
        database,
        "SELECT detail ->> 'name', detail ->> 'state', detail ->> 'username' FROM ledger.feed WHERE subject = %s ORDER BY seq",
        [node],
    )
    assert told == [
        ("attic", "active", "owner"),
        *((name, state, "owner") for _, name, state in steps[:-1]),
    ]  # what changes nothing is not told
    noted = execute(database, "SELECT action FROM ledger.audit_log WHERE target = %s ORDER BY seq", [node])
    assert [action for (action,) in noted] == ["agent.enroll", "node.rename", "node.pause", "node.rename", "node.resume"]


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\0"},
        {"state": "banned"},
        {"state": "deregistered"},
        {"tier": "established"},
        {"owner": "me"},
    ],
)
async def test_a_node_s_other_fields_are_not_its_owner_s_to_set(owner, body):
    _, node = await owner.enrolled()
    answer = await owner.call("PATCH", f"nodes/{node}/", json=body)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, list(body))


async def test_a_deregistered_node_is_gone_for_its_owner_and_its_history_stays(owner, database):
    agent, node = await owner.enrolled()
    assert (await owner.call("DELETE", f"nodes/{node}/")).status_code == 204
    assert (await owner.call("DELETE", f"nodes/{node}/")).status_code == 204
    assert await owner.nodes() == []
    assert [row["id"] for row in await owner.nodes(state="deregistered")] == [node]
    assert (await owner.call("PATCH", f"nodes/{node}/", json={"name": "x"})).status_code == 404
    assert (await agent.token(node)).json()["code"] == "agent_revoked"
    told = execute(database, "SELECT detail ->> 'state' FROM ledger.feed WHERE subject = %s ORDER BY seq", [node])
    assert told == [("active",), ("deregistered",)]
    assert (await owner.tokens())[0]["revoked_at"] is not None


async def test_a_revoked_or_banned_node_cannot_be_resumed_and_a_ban_cannot_be_left(owner, database):
    _, revoked = await owner.enrolled()
    (row,) = await owner.tokens()
    await owner.call("POST", f"agent-token/{row['id']}/revoke/")
    _, banned = await owner.enrolled()
    execute(database, "UPDATE ledger.node SET state = 'banned' WHERE id = %s", [banned])
    for node in (revoked, banned):
        answer = await owner.call("PATCH", f"nodes/{node}/", json={"state": "active"})
        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["state"])
    assert (await owner.call("DELETE", f"nodes/{banned}/")).status_code == 400
    newest = (await owner.tokens())[0]
    assert newest["revoked_at"] is None  # a refused deregistration changed nothing
    assert (await owner.call("POST", f"agent-token/{newest['id']}/revoke/")).status_code == 200
    assert execute(database, "SELECT state FROM ledger.node WHERE id = %s", [banned]) == [("banned",)]


async def test_node_id_of_another_provider_refused(owner, ledger, database):
    agent, node = await owner.enrolled()
    thief = await account(ledger, database, "thief")
    answer = await thief.call("POST", "agent-token/generate/", json={"node_id": node})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    mine = (await thief.generate())["token"]
    assert (await Agent(owner.http).enroll(mine, node_id=node)).status_code == 400
    _, other = await thief.enrolled()
    assert other != node
    assert (await agent.token(other)).json()["code"] == "bad_signature"
    assert (await agent.token(node)).status_code == 200
    assert execute(database, "SELECT p.username FROM ledger.node n JOIN ledger.person p ON p.id = n.person_id WHERE n.id = %s", [node]) == [
        ("owner",)
    ]


async def test_another_s_things_are_as_unknown_as_none(owner, ledger, database):
    _, node = await owner.enrolled()
    (row,) = await owner.tokens()
    stranger = await account(ledger, database)
    for id_, token in ((node, row["id"]), ("node_none", "agent_none"), ("node_local", "agent_none"), ("%00", "%00")):
        answers = [
            await stranger.call("PATCH", f"nodes/{id_}/", json={"name": "mine"}), await stranger.call("PATCH", f"nodes/{id_}/", json={"state": "paused"}),
            await stranger.call("DELETE", f"nodes/{id_}/"), await stranger.call("POST", f"agent-token/{token}/revoke/"),
        ]  # fmt: skip
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "not_found")] * 4
    assert (await stranger.nodes(), await stranger.tokens()) == ([], [])
    assert (await owner.nodes())[0]["state"] == "active"


ROUTES = [
    ("POST", "agent-token/generate/", "nodes:write"), ("GET", "agent-token/list/", "nodes:read"), ("POST", "agent-token/agent_x/revoke/", "nodes:write"),
    ("GET", "nodes/", "nodes:read"), ("PATCH", "nodes/node_x/", "nodes:write"), ("DELETE", "nodes/node_x/", "nodes:write"),
]  # fmt: skip


async def test_routes_of_the_account_want_a_credential_with_their_scope(ledger, database):
    for scopes in (("nodes:read",), ("nodes:write",)):
        caller = await account(ledger, database, scopes=scopes)
        for method, path, scope in ROUTES:
            body = {"json": {}} if method == "PATCH" else {}
            answer = await caller.call(method, path, **body)
            assert (answer.status_code == 403) == (scope not in scopes), (method, path, answer.text)
    for method, path, _ in ROUTES:
        answer = await ledger.http.request(method, f"/api/core/{path}", json={})
        assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


async def test_pages_of_nodes_are_the_whole_list(owner):
    made = [(await owner.enrolled())[1] for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = (await owner.call("GET", "nodes/", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [row["id"] for row in page["results"]]
        if (cursor := page["next"]) is None:
            break
    assert seen == made[::-1]
    bad = await owner.call("GET", "nodes/", params={"cursor": "x"})
    assert (bad.status_code, list(bad.json()["errors"])) == (400, ["cursor"])


async def test_what_a_node_did_before_it_left_is_paid_and_a_banned_one_is_not(owner, ledger, database):
    _, node = await owner.enrolled()
    placed = await ledger.client.place_hold(ledger.hold())
    await owner.call("DELETE", f"nodes/{node}/")
    fields = {"outcome": "succeeded", "prompt_tokens": 1, "completion_tokens": 1, "counted_by": "platform", "attempt": 1}
    await ledger.client.capture(Capture(id=placed.id, node=node, **fields))
    assert await NodeOwners(ledger.context.database).owner(node, uuid.uuid4()) == owner.person
    execute(database, "UPDATE ledger.node SET state = 'banned' WHERE id = %s", [node])
    with pytest.raises(NotFound):
        await NodeOwners(ledger.context.database).owner(node, uuid.uuid4())


async def test_nobody_is_paid_for_serving_their_own_job_but_the_operators_nodes_serve_everybody(owner, ledger, database):
    _, node = await owner.enrolled()
    key = owner.headers["Authorization"].removeprefix("Bearer ")
    await ledger.context.database.transact(lambda connection: post_welcome(connection, owner.person, 5_000_000))
    fields = {"outcome": "succeeded", "prompt_tokens": 1, "completion_tokens": 1, "counted_by": "platform", "attempt": 1}
    placed = await ledger.client.place_hold(ledger.hold(key=key))
    with pytest.raises(OwnNode):
        await ledger.client.capture(Capture(id=placed.id, node=node, **fields))
    assert execute(database, "SELECT count(*) FROM ledger.hold WHERE id = %s", [placed.id]) == [(1,)]
    execute(database, "UPDATE ledger.node SET kind = 'trusted' WHERE id = %s", [node])
    ledger.context.settling._owner_of.__self__._known.clear()
    assert (await ledger.client.capture(Capture(id=placed.id, node=node, **fields))).status == "ok"


async def test_enrolling_anew_revoking_and_leaving_at_once_end_in_one_state(owner, database):
    for _ in range(4):
        _, node = await owner.enrolled()
        code = (await owner.generate(node_id=node))["token"]
        token = (await owner.tokens())[1]["id"]
        answers = await asyncio.gather(
            Agent(owner.http).enroll(code), owner.call("DELETE", f"nodes/{node}/"), owner.call("POST", f"agent-token/{token}/revoke/")
        )
        assert (answers[0].status_code, answers[1].status_code, answers[2].status_code) in {
            (201, 204, 404),
            (201, 204, 200),
            (401, 204, 404),
            (401, 204, 200),
        }
        assert execute(database, "SELECT state FROM ledger.node WHERE id = %s", [node]) == [("deregistered",)]
        assert execute(database, "SELECT count(*) FROM ledger.enrollment WHERE node_id = %s AND revoked_at IS NULL", [node]) == [(0,)]

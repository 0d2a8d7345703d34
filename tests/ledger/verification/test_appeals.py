"""Appeals and what operators decide: a quarantine is lifted, a node pardoned, money given back."""

import asyncio
import json
import os
import sys
import uuid

import pytest

from ledger.audit_log import Origin
from ledger.identity.passwords import Passwords
from ledger.money import accounts
from ledger.operators import people
from tests.edge_agent import account, execute
from tests.ledger.auditing import CREDIT, market
from tests.ledger.people import PASSWORD, bearer, sign_in

NOTE = "The driver of this machine was broken on Monday; it is mended now."


@pytest.fixture
async def ledger(ledger_with):
    return await ledger_with(welcome_credits="0", platform_fee_percent=10)


@pytest.fixture
async def operator(ledger):
    """What an operator does: calls of `/api/admin/…`."""
    await ledger.context.database.transact(
        lambda connection: people.create_operator(connection, "olga", PASSWORD, Passwords((8, 1)), 10, Origin("test"))
    )
    headers = bearer((await sign_in(ledger, "olga")).json()["access"])

    async def call(method, path, **body):
        return await ledger.http.request(method, f"/api/admin/{path}", headers=headers, json=body or None)

    return call


async def appealed(m, node, note=NOTE):
    return await m.owner.call("POST", f"nodes/{node}/appeal/", json={"note": note})


async def test_an_appeal_that_is_upheld_gives_back_what_the_ban_took(ledger, database, operator):
    m = await market(ledger, database)
    node = await m.node()
    await m.judge(node, *(await m.serve(node, 5))[:3])
    assert (m.escrow(node), m.forfeited(node), m.consumers[1]) == (0, 1_800_000, 98 * CREDIT)
    filed = (await appealed(m, node)).json()
    assert (filed["state"], filed["note"], filed["answer"]) == ("OPEN", NOTE, None)
    (row,) = (await operator("GET", "appeals/?state=OPEN")).json()["results"]
    assert row == filed
    (suspect,) = (await operator("GET", "suspect-nodes/")).json()["results"]
    assert (suspect["node_id"], suspect["state"], suspect["strikes"], suspect["has_open_appeal"]) == (node, "banned", 3, True)

    decided = await operator("POST", f"appeals/{filed['id']}/decide/", uphold=True, reason="The reference was wrong.")
    assert (decided.status_code, decided.json()["state"]) == (200, "UPHELD")
    seen = await m.audits(node)
    assert (seen["state"], seen["state_reason"], seen["strikes"], seen["appeal"]["answer"]) == (
        "active",
        None,
        0,
        "The reference was wrong.",
    )
    assert (m.escrow(node), m.forfeited(node)) == (4_500_000, 0)  # the consumers keep theirs: the platform was wrong
    assert (m.consumers[1], m.balance(accounts.GOODWILL)) == (98 * CREDIT, -2_700_000)
    assert m.told(node)[-1] == ("active", 100)
    assert m.logged(node)[-4:] == ["appeal.filed", "appeal.upheld", "node.gave_back", "node.pardon"]
    assert (await operator("POST", f"appeals/{filed['id']}/decide/", uphold=True, reason="again")).json()["code"] == "appeal_decided"
    assert m.escrow(node) == 4_500_000

    # What comes later begins at nothing, also in money.
    await m.judge(node, *await m.serve(node, 3))
    assert (m.escrow(node), m.forfeited(node)) == (0, 4_500_000)
    await operator("POST", f"nodes/{node}/lift/", reason="once more", pardon=True)
    assert (m.escrow(node), m.forfeited(node), m.balance(accounts.GOODWILL)) == (7_200_000, 0, -5_400_000)


async def test_an_appeal_that_is_refused_changes_nothing_and_another_may_follow(ledger, database, operator):
    m = await market(ledger, database)
    node = await m.node()
    await m.judge(node, *await m.serve(node, 2))
    filed = (await appealed(m, node)).json()
    decided = (await operator("POST", f"appeals/{filed['id']}/decide/", uphold=False, reason="It cheats.")).json()
    assert (decided["state"], decided["answer"]) == ("REFUSED", "It cheats.")
    assert ((await m.audits(node))["state"], m.escrow(node)) == ("quarantined", 1_800_000)
    assert (await appealed(m, node)).status_code == 201


async def test_one_appeal_of_a_node_is_open_and_only_about_something(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    assert (await appealed(m, node)).status_code == 400
    await m.judge(node, uuid.uuid4())
    answers = await asyncio.gather(*(appealed(m, node) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"appeal_open"}
    for note in ("", "x" * 2001, "too bad\0 for it"):
        assert (await appealed(m, node, note)).status_code == 400
    stranger = await account(ledger, database)
    assert (await stranger.call("POST", f"nodes/{node}/appeal/", json={"note": NOTE})).status_code == 404
    assert (await stranger.call("GET", f"nodes/{node}/audits/")).status_code == 404


async def test_a_quarantine_that_is_lifted_leaves_the_strikes(ledger, database, operator):
    m = await market(ledger, database)
    node = await m.node()
    m.make(node, tier="established")
    await m.judge(node, uuid.uuid4(), uuid.uuid4())
    assert (await operator("POST", f"nodes/{node}/lift/", reason="looked at")).status_code == 204
    seen = await m.audits(node)
    assert (seen["state"], seen["strikes"], seen["audit_percent"], seen["steps"][0]["step"]) == ("active", 2, 100, "lift")
    assert (await operator("POST", f"nodes/{node}/lift/", reason="once more")).status_code == 400
    said = await m.judge(node, uuid.uuid4())
    assert (said.state, said.strikes) == ("banned", 3)
    assert (await operator("POST", f"nodes/{node}/lift/", reason="no pardon")).status_code == 400
    assert (await operator("POST", f"nodes/{node}/lift/", reason="a pardon", pardon=True)).status_code == 204
    seen = await m.audits(node)
    assert (seen["state"], seen["strikes"], seen["audit_percent"]) == ("active", 0, 2)
    assert (await operator("POST", "nodes/node_nobody/lift/", reason="nobody")).status_code == 404


async def test_its_owner_cannot_leave_a_quarantine(ledger, database, operator):
    m = await market(ledger, database)
    node = await m.node()
    agent = m.agent
    await m.judge(node, uuid.uuid4(), uuid.uuid4())
    assert (await m.owner.call("PATCH", f"nodes/{node}/", json={"state": "active"})).status_code == 400
    assert (await m.owner.call("DELETE", f"nodes/{node}/")).status_code == 400
    assert (await agent.token(node)).status_code == 200  # it connects, and gets nothing to do
    (token,) = await m.owner.tokens()
    assert (await m.owner.call("POST", f"agent-token/{token['id']}/revoke/")).status_code == 200
    assert ((await m.audits(node))["state"], (await agent.token(node)).status_code) == ("quarantined", 401)
    assert execute(database, "SELECT detail ->> 'key' FROM ledger.feed WHERE subject = %s ORDER BY seq DESC LIMIT 1", [node]) == [(None,)]
    assert (await operator("POST", f"nodes/{node}/lift/", reason="looked at")).status_code == 204
    assert (await m.audits(node))["state"] == "revoked"
    code = (await m.owner.generate(node_id=node))["token"]
    assert (await agent.enroll(code)).json()["node_id"] == node
    assert (await m.audits(node))["state"] == "active"


async def test_operators_page_through_verdicts(ledger, database, operator):
    m = await market(ledger, database)
    node, other = await m.node(), await m.node()
    await m.judge(node, uuid.uuid4())
    await m.judge(node, *(uuid.uuid4() for _ in range(3)), is_flagged=False)
    await m.judge(other, uuid.uuid4(), is_flagged=False)
    first = (await operator("GET", f"verdicts/?node_id={node}&limit=3")).json()
    rest = (await operator("GET", f"verdicts/?node_id={node}&limit=3&cursor={first['next']}")).json()
    assert ([row["is_flagged"] for row in first["results"]], [row["is_flagged"] for row in rest["results"]]) == ([False] * 3, [True])
    assert rest["next"] is None
    assert [row["node_id"] for row in (await operator("GET", "verdicts/?flagged=true")).json()["results"]] == [node]
    own = await m.audits(node, limit=2)
    assert [len(own["results"]), len((await m.audits(node, limit=2, cursor=own["next"]))["results"])] == [2, 2]


async def test_the_command_shows_and_decides_on_the_machine_itself(ledger, database):
    environment = {**os.environ, "GFE_SECRETS_DIR": str(ledger.folder), "GFE_LEDGER_SOCKET": str(ledger.context.settings.ledger_socket)}

    async def audits(*arguments):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-c", "from ledger.admin_cli import app; app()", "audits", *arguments,
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, wrong = await process.communicate()
        return process.returncode, said.decode(), wrong.decode()

    assert (await audits("list"))[:2] == (0, "nothing speaks against any node\n")
    m = await market(ledger, database)
    node = await m.node()
    await m.judge(node, uuid.uuid4(), uuid.uuid4())
    (row,) = json.loads((await audits("list", "--json"))[1])
    assert (row["node"], row["state"], row["strikes"]) == (node, "quarantined", 2)
    assert (await audits("lift", node, "--reason", "looked at"))[:2] == (0, f"{node} may work again\n")
    assert (await audits("lift", node, "--reason", "once more"))[0] == 1
    filed = (await appealed(m, node)).json()
    said = (await audits("appeals"))[1]
    assert (filed["id"] in said, NOTE in said) == (True, True)
    assert (await audits("decide", filed["id"], "--uphold", "--reason", "A false alarm."))[:2] == (0, f"{filed['id']}: UPHELD\n")
    assert (await audits("decide", filed["id"], "--refuse", "--reason", "no"))[2].startswith("This appeal is decided already.")
    seen = await m.audits(node)
    assert (seen["strikes"], seen["appeal"]["answer"]) == (0, "A false alarm.")
    assert (await audits("appeals"))[1] == "no appeal is open\n"

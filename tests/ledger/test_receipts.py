"""The consumer's receipt: money from the books alone, signed so that it is good for nothing else."""

import jwt
import psycopg
import pytest

from ledger.api.operations import answer_all
from ledger.client import AgentReceipt, Capture, Share, SignReceipt, Void, job_id
from ledger.ids import uuid_of
from ledger.money.receipts import TYPE
from tests.edge_agent import Account, Agent
from tests.ledger.people import bearer, somebody

SAID = {"model_digest": "d" * 64, "text_sha256": "a" * 64}
VOUCHED = AgentReceipt(**SAID, signature="s" * 86, prompt_tokens=9, completion_tokens=8, reason="stop")


async def enrolled(ledger, name="bob"):
    """A person's agent and its node."""
    provider = await somebody(ledger, name)
    agent = Agent(ledger.http)
    code = (await Account(ledger.http, provider.tokens["access"]).generate())["token"]
    return agent, (await agent.enroll(code)).json()["node_id"], provider


async def captured(ledger, node, **changes):
    placed = await ledger.client.place_hold(ledger.hold())
    fields = {"outcome": "succeeded", "prompt_tokens": 10, "completion_tokens": 5, "counted_by": "platform", "node": node, "attempt": 2}
    await ledger.client.capture(Capture(id=placed.id, **(fields | changes)))
    return placed.id


async def receipt(ledger, id_, agent=None):
    """The claims, checked as anybody would check them."""
    token = await ledger.client.sign_receipt(SignReceipt(id=id_, **SAID, agent=agent))
    keys = jwt.PyJWKSet.from_dict((await ledger.http.get("/.well-known/jwks.json")).json())
    head = jwt.get_unverified_header(token)
    assert head["typ"] == TYPE
    return jwt.decode(token, keys[head["kid"]], algorithms=["EdDSA"], audience="receipt")


async def test_it_says_what_the_books_say(ledger_with):
    ledger = await ledger_with(job_price="0.50", completion_price="2.00")
    agent, node, _ = await enrolled(ledger)
    id_ = await captured(ledger, node)
    said = await receipt(ledger, id_, VOUCHED)
    assert (said["job"], said["outcome"], said["node"], said["attempt"], said["model"]) == (job_id(id_), "succeeded", node, 2, "m")
    assert (said["cost"], said["held"], said["refunded"]) == ("0.50001", "0.5002", "0.00")
    assert said["price"] == {"version": 1, "job": "0.50", "prompt_per_million": "0.00", "completion_per_million": "2.00"}
    assert said["usage"] == {"prompt_tokens": 10, "completion_tokens": 5, "counted_by": "platform"}
    assert (said["node_key"], said["agent"]) == (agent.public_key, VOUCHED.model_dump())
    assert (said["model_digest"], said["text_sha256"]) == (SAID["model_digest"], SAID["text_sha256"])
    assert said["held_at"] < said["settled_at"]
    assert said["sub"].startswith("user_")


async def test_it_is_the_same_each_time(ledger):
    id_ = await captured(ledger, "node_local")
    asked = SignReceipt(id=id_, **SAID)
    assert await ledger.client.sign_receipt(asked) == await ledger.client.sign_receipt(asked)


async def test_of_a_trusted_node_there_is_no_signature(ledger):
    """Also where the service says that there is one: the books know no key."""
    said = await receipt(ledger, await captured(ledger, "node_local"), VOUCHED)
    assert said["node_key"] is None
    assert "agent" not in said


async def test_the_key_is_that_of_then(ledger):
    """The node gets another key; what it signed with the old one can still be checked."""
    agent, node, provider = await enrolled(ledger)
    id_ = await captured(ledger, node)
    code = (await Account(ledger.http, provider.tokens["access"]).generate(node_id=node))["token"]
    assert (await Agent(ledger.http).enroll(code)).status_code == 201
    assert (await receipt(ledger, id_, VOUCHED))["node_key"] == agent.public_key


async def test_a_void_job_costs_nothing_and_nobody_vouches(ledger):
    placed = await ledger.client.place_hold(ledger.hold())
    await ledger.client.void(Void(id=placed.id, reason="not served"))
    said = await receipt(ledger, placed.id, VOUCHED)
    assert (said["outcome"], said["cost"], said["usage"], said["node"]) == ("voided", "0.00", None, None)
    assert "agent" not in said


async def test_it_names_all_who_served(ledger):
    _, node, _ = await enrolled(ledger)
    id_ = await captured(ledger, node, shares=(Share(node="node_local", attempt=1, tokens=3),))
    assert (await receipt(ledger, id_))["shares"] == [{"node": "node_local", "attempt": 1, "tokens": 3}]


async def test_a_refund_shows(ledger):
    from ledger.audit_log import Origin
    from ledger.operators.refunds import refund

    id_ = await captured(ledger, "node_local")
    await refund(ledger.context.database, id_, "a test", Origin("test"))
    said = await receipt(ledger, id_)
    assert (said["cost"], said["refunded"]) == ("1.00", "1.00")


async def test_it_is_no_credential(ledger):
    token = await ledger.client.sign_receipt(SignReceipt(id=await captured(ledger, "node_local"), **SAID))
    assert (await ledger.http.get("/api/payments/wallet/", headers=bearer(token))).status_code == 401


async def test_what_never_was_a_job_has_none(ledger, database):
    """A welcome gift has an id in the books too."""
    with psycopg.connect(database.admin_url) as admin:
        (gift,) = admin.execute("SELECT id FROM ledger.txn WHERE kind = 1 LIMIT 1").fetchone()
    (answer,) = await answer_all(ledger.context, "serve", [SignReceipt(id=gift, **SAID)])
    assert answer.code == "not_found"
    assert uuid_of("job", answer.id) == gift


@pytest.mark.parametrize("text", ["", "A" * 64, "a" * 63, "g" * 64])
def test_a_hash_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="text_sha256"):
        SignReceipt(id="00000000-0000-0000-0000-000000000000", model_digest="", text_sha256=text)

"""What providers read of their earnings by node and of their escrows, and what an agent is told by its own token."""

import importlib
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from ledger.client import Share
from ledger.identity.enrollment import agent_claims
from ledger.operators.refunds import refund
from tests.edge_agent import Agent, execute
from tests.ledger.auditing import OPERATOR, market
from tests.ledger.people import bearer


@pytest.fixture
async def ledger(ledger_with):
    return await ledger_with(welcome_credits="0", payout_delay_hours=24)


async def earnings(m, **query):
    answer = await m.ledger.http.get("/api/payments/earnings/", headers=m.owner.headers, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def status(m, token):
    return await m.ledger.http.get("/api/core/agent/status/", headers=bearer(token))


async def told(m, node):
    token = (await m.agent.token(node)).json()["access_token"]
    answer = await status(m, token)
    assert answer.status_code == 200, answer.text
    return answer.json()


def by_node(said):
    return {row["node_id"]: (row["name"], row["earned"], row["jobs"]) for row in said["by_node"]}


async def test_earnings_are_told_by_node_and_what_waits_until_when(ledger, database):
    m = await market(ledger, database)
    one, two = await m.node(label="one"), await m.node(label="two")
    before = datetime.now(UTC)
    await m.serve(one, 3)
    await m.serve(two)
    said = await earnings(m)
    assert by_node(said) == {one: ("one", "3.00", 3), two: ("two", "1.00", 1)}
    assert (said["total"], said["jobs"], said["pending"], said["released"]) == ("4.00", 4, "4.00", "0.00")
    first, second = said["escrows"]
    assert (first["node_id"], first["amount"], second["node_id"], second["amount"]) == (one, "3.00", two, "1.00")
    at, last = (datetime.fromisoformat(first[name]) for name in ("first_at", "last_at"))
    assert before + timedelta(hours=24) <= at < last < datetime.now(UTC) + timedelta(hours=24)
    m.make(two, state="quarantined")
    assert [row["last_at"] is None for row in (await earnings(m))["escrows"]] == [False, True]


async def test_what_is_released_waits_no_more(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    await m.serve(node, 2)
    execute(database, "ALTER TABLE ledger.txn DISABLE TRIGGER append_only; UPDATE ledger.txn SET at = at - interval '2 days'")
    await ledger.context.earnings.release()
    said = await earnings(m)
    assert (said["pending"], said["released"], said["escrows"], said["total"]) == ("0.00", "2.00", [], "2.00")
    await m.serve(node)
    said = await earnings(m)
    assert (said["pending"], len(said["escrows"])) == ("1.00", 1)
    assert said["escrows"][0]["first_at"] == said["escrows"][0]["last_at"]


async def test_a_refund_is_taken_off_the_node_that_earned_it(ledger, database):
    m = await market(ledger, database)
    one, two = await m.node(label="one"), await m.node(label="two")
    (job, *_) = await m.serve(one, 2)
    await m.serve(two)
    await earnings(m)
    await refund(ledger.context.database, job, "a test", OPERATOR)
    assert by_node(await earnings(m)) == {one: ("one", "1.00", 1), two: ("two", "1.00", 1)}


async def test_a_job_of_two_own_nodes_counts_once_where_it_ended(ledger, database):
    m = await market(ledger, database)
    lost, finished = await m.node(label="lost"), await m.node(label="finished")
    await m.serve(finished, completion_tokens=10, shares=(Share(node=lost, attempt=1, tokens=5),), attempt=2)
    said = await earnings(m)
    assert by_node(said) == {lost: ("lost", "0.50", 0), finished: ("finished", "0.50", 1)}
    assert (said["jobs"], said["period"]) == (1, "1.00")


async def test_promotional_credits_count_where_the_job_ended(ledger_with, database):
    ledger = await ledger_with(welcome_credits="5.00")
    m = await market(ledger, database, paid=0)
    node = await m.node(label="one")
    await m.serve(node, 2)
    said = await earnings(m)
    assert by_node(said) == {node: ("one", "2.00", 2)}
    assert (said["pending"], said["released"]) == ("0.00", "0.00")


# --- the agent ------------------------------------------------------------------------------------------------------------------------


async def test_an_agent_is_told_how_its_node_stands(ledger, database):
    m = await market(ledger, database)
    node = await m.node(label="my GPU")
    said = await told(m, node)
    assert (said["node_id"], said["name"], said["state"], said["tier"], said["strikes"], said["reasons"]) == (
        node, "my GPU", "active", "probation", 0, [],
    )  # fmt: skip
    assert (said["earned_today"], said["earned_total"], said["held"], said["held_until"]) == ("0.00", "0.00", "0.00", None)
    await m.serve(node, 2)
    said = await told(m, node)
    assert (said["earned_today"], said["jobs_today"], said["earned_total"], said["jobs_total"]) == ("2.00", 2, "2.00", 2)
    assert said["held"] == "2.00"
    assert datetime.fromisoformat(said["held_until"]) > datetime.now(UTC) + timedelta(hours=23)


async def test_what_another_node_earned_is_not_told(ledger, database):
    m = await market(ledger, database)
    await m.serve(await m.node(), 3)
    assert (await told(m, await m.node()))["earned_total"] == "0.00"


async def test_yesterday_is_not_today(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    await m.serve(node)
    execute(database, "ALTER TABLE ledger.txn DISABLE TRIGGER append_only; UPDATE ledger.txn SET at = at - interval '24 hours'")
    said = await told(m, node)
    assert (said["earned_today"], said["earned_total"]) == ("0.00", "1.00")


async def test_quarantine_and_its_reason_are_told(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    await m.judge(node, *await m.serve(node, 2))
    said = await told(m, node)
    assert (said["state"], said["strikes"], said["held_until"]) == ("quarantined", 2, None)
    assert said["held"] != "0.00"
    assert said["reasons"] == [f"The platform says: {said['state_reason']}"]


async def test_a_token_of_a_replaced_key_is_worth_nothing(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    token = (await m.agent.token(node)).json()["access_token"]
    assert (await Agent(ledger.http).enroll((await m.owner.generate(node_id=node))["token"])).status_code == 201
    assert (await status(m, token)).status_code == 401


@pytest.mark.parametrize("state", ["revoked", "deregistered"])
async def test_an_agent_that_was_cut_is_told_so(ledger, database, state):
    m = await market(ledger, database)
    node = await m.node()
    token = (await m.agent.token(node)).json()["access_token"]
    m.make(node, state=state)
    answer = await status(m, token)
    assert (answer.status_code, answer.json()["code"]) == (401, "agent_revoked")


async def test_nobody_elses_credential_opens_it(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    keys = ledger.context.signing_keys
    good = agent_claims(node, m.agent.public_key, time.time())
    assert (await status(m, keys.sign(good))).status_code == 200
    forged = [
        m.consumer.tokens["access"], ledger.key, "a.b.c", keys.sign(good | {"aud": "api"}), keys.sign(good | {"sub": "node_nobody"}),
        keys.sign(good | {"cnf": {}}), keys.sign(good | {"cnf": None}), keys.sign(good | {"exp": int(time.time()) - 60}),
        keys.sign(good | {"sub": "node_local"}),
    ]  # fmt: skip
    for token in forged:
        assert (await status(m, token)).status_code == 401


async def test_an_agent_that_asks_without_end_is_refused(ledger, database, monkeypatch):
    monkeypatch.setattr("ledger.api.agents.STATUS_PER_MINUTE", 3)
    m = await market(ledger, database)
    node = await m.node()
    token = (await m.agent.token(node)).json()["access_token"]
    answers = [(await status(m, token)).status_code for _ in range(4)]
    assert answers == [200, 200, 200, 429]


async def test_the_summary_of_before_is_made_again_by_the_migration(ledger, database):
    """What was summed up without nodes is thrown away: the books have it all."""
    migration = importlib.import_module("ledger.migrations.versions.0008_earnings_by_node")
    m = await market(ledger, database)
    node = await m.node(label="one")
    await m.serve(node)
    before = await earnings(m)
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "ALTER TABLE ledger.earnings_day DROP COLUMN node; ALTER TABLE ledger.earnings_day ADD PRIMARY KEY (person_id, day, model)"
        )
        admin.execute(migration.BY_NODE)
    assert await earnings(m) == before

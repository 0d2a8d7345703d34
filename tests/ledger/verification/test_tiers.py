"""Tiers, the delay of pay-outs, and nodes whose own counts are off."""

import asyncio
from datetime import timedelta

import pytest

from ledger.client import CountAlarm, new_hold_id
from ledger.money import accounts
from ledger.money.earnings import Earnings
from ledger.verification.payouts import payout_terms
from ledger.verification.work import promote
from tests.edge_agent import execute
from tests.ledger.auditing import CREDIT, OPERATOR, market


@pytest.fixture
async def ledger(ledger_with):
    return await ledger_with(welcome_credits="0")


def age(database, days):
    """Let entries be so many days old, which the books do not allow."""
    execute(database, "ALTER TABLE ledger.txn DISABLE TRIGGER append_only")
    execute(database, "UPDATE ledger.txn SET at = at - make_interval(days => %s)", [days])
    execute(database, "ALTER TABLE ledger.txn ENABLE TRIGGER append_only")


async def test_earnings_wait_for_the_delay_of_their_nodes_tier(ledger, database):
    m = await market(ledger, database)
    nodes = {}
    for tier in ("probation", "verified", "established"):
        nodes[tier] = await m.node()
        m.make(nodes[tier], tier=tier)
        await m.serve(nodes[tier])
    stopped = await m.node()
    await m.serve(stopped)
    m.make(stopped, state="quarantined")
    released = Earnings(ledger.context.database, terms=payout_terms(None))
    for days, tier in ((6, None), (2, "established"), (5, None), (2, "verified"), (14, None), (2, "probation"), (100, None)):
        age(database, days)
        assert await released.release() == (tier is not None)
        if tier:
            assert m.escrow(nodes.pop(tier)) == 0
        assert all(m.escrow(node) == CREDIT for node in nodes.values())
    assert (m.balance(accounts.earned(m.owner.person)), m.escrow(stopped)) == (3 * CREDIT, CREDIT)
    m.make(stopped, state="active")
    assert await released.release() == 1


async def test_each_round_of_releases_goes_on_behind_the_one_before(ledger, database, monkeypatch):
    monkeypatch.setattr("ledger.money.earnings.ACCOUNTS_PER_ROUND", 1)
    m = await market(ledger, database)
    nodes = [await m.node() for _ in range(3)]
    for node in nodes:
        await m.serve(node)
    m.make(nodes[0], state="banned")  # it waits for ever, and nobody behind it does
    released = Earnings(ledger.context.database, terms=payout_terms(timedelta()))
    assert [await released.release() for _ in range(4)] == [0, 1, 1, 0]


async def test_earnings_from_before_nodes_had_escrows_are_released_too(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    await m.serve(node)
    execute(database, "UPDATE ledger.account SET address = 'provider:' || %s || ':pending' WHERE address = %s", [m.owner.person, accounts.pending(m.owner.person, node)])  # fmt: skip
    before = (await ledger.http.get("/api/payments/wallet/", headers=m.owner.headers)).json()
    assert [row["amount"] for row in before["logs"]] == ["1.00"]
    assert await Earnings(ledger.context.database, terms=payout_terms(None)).release() == 0
    assert await ledger.context.earnings.release() == 1
    assert m.balance(accounts.earned(m.owner.person)) == CREDIT


async def test_a_node_rises_by_its_jobs_and_not_over_a_strike(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    await m.serve(node, 3)
    await asyncio.gather(*(ledger.context.work.flush() for _ in range(3)))
    assert execute(database, "SELECT jobs FROM ledger.node_work") == [(3,)]
    assert await promote(ledger.context.database) == 0
    execute(database, "UPDATE ledger.node_work SET jobs = 50")
    assert await promote(ledger.context.database) == 1
    assert await promote(ledger.context.database) == 0
    seen = await m.audits(node)
    assert (seen["tier"], seen["audit_percent"], seen["jobs"], seen["steps"][0]["step"]) == ("verified", 5, 50, "promote")
    execute(database, "UPDATE ledger.node_work SET jobs = 5000")
    assert await promote(ledger.context.database) == 0
    m.make(node, created_at="2026-01-01")
    await m.judge(node, new_hold_id())
    assert await promote(ledger.context.database) == 0
    await ledger.context.appeals.lift(node, is_pardoned=True, reason="a false alarm", origin=OPERATOR)
    assert sum(await asyncio.gather(*(promote(ledger.context.database) for _ in range(3)))) == 1
    assert m.told(node)[-1] == ("active", 2)


async def test_ten_jobs_in_a_hundred_whose_counts_were_off_end_in_quarantine(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    await ledger.context.work.flush()
    execute(database, "INSERT INTO ledger.node_work (node_id, jobs) VALUES (%s, 1)", [node])
    for _ in range(9):
        told = await alarm(ledger, node)
    assert (told.status, told.alarms, told.state) == ("ok", 9, "active")
    execute(database, "UPDATE ledger.node_work SET jobs = 101")  # the nine are too long ago
    told = await alarm(ledger, node)
    assert (told.alarms, told.state) == (1, "active")
    assert (await m.audits(node))["strikes"] == 0
    job = new_hold_id()
    said = await m.judge(node, job, rule="count")  # what the auditor finds counts too, once per job
    assert (said.state, said.strikes) == ("active", 0)
    assert (await alarm(ledger, node, job)).status == "exists"
    told = await asyncio.gather(*(alarm(ledger, node) for _ in range(8)))
    assert sorted(one.alarms for one in told) == list(range(3, 11))
    seen = await m.audits(node)
    assert (seen["state"], seen["count_alarms"]) == ("quarantined", 10)
    assert "token counts" in seen["state_reason"]
    assert [row["step"] for row in seen["steps"]] == ["quarantine"]
    assert m.told(node)[-1][0] == "quarantined"


async def alarm(ledger, node, job=None, kind="count"):
    return await ledger.client.alarm_count(CountAlarm(job=job or new_hold_id(), node=node, claimed=200, counted=100, kind=kind))


async def test_five_jobs_in_a_hundred_that_were_too_fast_pause_the_node_and_its_owner_may_resume_it(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    execute(database, "INSERT INTO ledger.node_work (node_id, jobs) VALUES (%s, 1)", [node])
    job = new_hold_id()
    assert (await alarm(ledger, node, job)).alarms == 1  # of the counts of the same job
    for _ in range(4):
        told = await alarm(ledger, node, kind="timing")
    execute(database, "UPDATE ledger.node_work SET jobs = 150")  # the four are too long ago
    told = await alarm(ledger, node, job, "timing")
    assert (told.status, told.alarms, told.state) == ("ok", 1, "active")
    assert (await alarm(ledger, node, job, "timing")).status == "exists"
    told = await asyncio.gather(*(alarm(ledger, node, kind="timing") for _ in range(4)))
    assert sorted((one.alarms, one.state) for one in told)[-2:] == [(4, "active"), (5, "paused")]
    seen = await m.audits(node)
    assert (seen["state"], seen["strikes"], seen["count_alarms"]) == ("paused", 0, 1)
    assert "faster than others with its GPU" in seen["state_reason"]
    assert [row["step"] for row in seen["steps"]] == ["pause"]
    assert m.told(node)[-1][0] == "paused"

    resumed = (await m.owner.call("PATCH", f"nodes/{node}/", json={"state": "active"})).json()
    assert (resumed["state"], resumed["state_reason"], m.told(node)[-1][0]) == ("active", None, "active")
    assert (await m.audits(node))["state_reason"] is None
    told = [await alarm(ledger, node, kind="timing") for _ in range(5)]  # it begins anew
    assert [(one.alarms, one.state) for one in told] == [*((n, "active") for n in range(1, 5)), (5, "paused")]
    renamed = (await m.owner.call("PATCH", f"nodes/{node}/", json={"name": "attic"})).json()
    assert "faster" in renamed["state_reason"]  # another name resumes nothing


async def test_a_node_that_is_stopped_for_more_stays_so_when_it_is_too_fast(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    m.make(node, state="quarantined")
    for _ in range(6):
        told = await alarm(ledger, node, kind="timing")
    assert (told.state, (await m.audits(node))["steps"]) == ("quarantined", [])


async def test_the_log_of_several_nodes_is_one_and_is_paged_without_a_gap(ledger, database):
    m = await market(ledger, database)
    nodes = [await m.node() for _ in range(3)]
    for node in (*nodes, *reversed(nodes), nodes[0]):
        await m.serve(node)

    async def page(**query):
        answer = await ledger.http.get("/api/payments/wallet/", headers=m.owner.headers, params={"limit": 2} | query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    found = [await page()]
    await m.serve(await m.node(), 2)  # what is opened and earned meanwhile belongs to no page of the past
    while found[-1]["next"]:
        found.append(await page(cursor=found[-1]["next"]))
    rows = [row for one in found for row in one["logs"]]
    assert [len(one["logs"]) for one in found] == [2, 2, 2, 1]
    assert len({row["job_id"] for row in rows}) == 7
    assert [row["balance_after"] for row in rows] == [f"{left}.00" for left in range(7, 0, -1)]
    assert len((await page(limit=100))["logs"]) == 9

"""Three strikes: audited again, in quarantine, banned; and what that does to money."""

import asyncio
import uuid
from datetime import timedelta

import pytest

from ledger.client import NotFound, Share
from ledger.errors import PaymentEnded
from ledger.identity.nodes import CACHE_S
from ledger.money import accounts
from ledger.money.earnings import Earnings
from ledger.operators.refunds import refund
from ledger.verification import forfeiture
from ledger.verification.payouts import payout_terms
from tests.edge_agent import execute
from tests.ledger.auditing import CREDIT, OPERATOR, market, sample_of, verdict_on
from tests.ledger.test_money_reads import fund


@pytest.fixture
async def ledger(ledger_with):
    return await ledger_with(welcome_credits="0", platform_fee_percent=10)


async def test_three_flags_end_in_a_ban_each_with_its_reason(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    m.make(node, tier="established", audit_percent=2)
    jobs = await m.serve(node, 5)
    assert (m.escrow(node), m.consumers) == (4_500_000, (0, 95 * CREDIT))

    said = await m.judge(node, jobs[0])
    assert (said.state, said.strikes) == ("active", 1)
    said = await m.judge(node, jobs[1], rule="B")
    assert (said.state, said.strikes) == ("quarantined", 2)
    seen = await m.audits(node)
    assert (seen["state"], seen["strikes"], seen["audit_percent"], seen["jobs"]) == ("quarantined", 2, 100, 0)
    assert "second audit" in seen["state_reason"]
    assert m.escrow(node) == 4_500_000
    said = await m.judge(node, jobs[2])
    assert (said.state, said.strikes) == ("banned", 3)

    assert m.consumers == (0, 98 * CREDIT)  # three jobs are given back whole, with the platform's fee
    assert (m.escrow(node), m.forfeited(node), m.balance(accounts.FEES)) == (0, 1_800_000, 200_000)
    assert [state for state, _ in m.told(node)] == ["active", "active", "quarantined", "banned"]
    assert [percent for _, percent in m.told(node)][1:] == [100, 100, 100]
    assert m.logged(node)[1:] == ["node.reaudit", "node.quarantine", "node.ban", "node.forfeited"]
    seen = await m.audits(node)
    assert [row["step"] for row in seen["steps"]] == ["ban", "quarantine", "reaudit"]
    assert [(row["rule"], row["is_flagged"]) for row in seen["results"]] == [("A", True), ("B", True), ("A", True)]
    assert (seen["audited"], "appeal" in seen["what_next"]) == (3, True)
    mine = (await ledger.http.get("/api/payments/wallet/", headers=m.owner.headers)).json()
    assert [row["amount"] for row in mine["logs"] if row["description"] == "Forfeited earnings of a banned node"] == ["-1.80"]
    theirs = (await m.consumer.get("/api/payments/wallet/")).json()
    assert [row["kind"] for row in theirs["logs"]].count("refund") == 3

    await asyncio.sleep(CACHE_S)
    with pytest.raises(NotFound):
        await m.serve(node)  # what is in flight earns nothing any more, and its consumer pays nothing
    refused = await m.agent.token(node)
    assert (refused.status_code, refused.json()["code"], refused.json()["state"]) == (401, "agent_revoked", "banned")
    assert refused.json()["detail"] == f"This node is banned. {seen['state_reason']}"


async def test_what_promotional_credits_paid_is_given_back_as_such_and_from_the_escrow_when_it_is_spent(ledger_with, database):
    ledger = await ledger_with(welcome_credits="2.00")
    m = await market(ledger, database, paid=4 * CREDIT)
    node = await m.node()
    jobs = await m.serve(node, 5)  # two with promotional credits, three with deposited ones
    promo = accounts.promo(m.owner.person)
    assert (m.consumers, m.escrow(node), m.balance(promo)) == ((0, CREDIT), 3 * CREDIT, 2 * CREDIT)
    await fund(database, m.owner.person, -1_500_000, accounts.promo)  # the provider spends of what promotional credits brought
    await m.judge(node, *jobs[:3])
    assert m.consumers == (2 * CREDIT, 2 * CREDIT)
    assert (m.balance(promo), m.escrow(node), m.forfeited(node)) == (0, 0, 500_000)


async def test_what_promotional_credits_brought_is_touched_only_for_jobs_that_they_paid(ledger_with, database):
    ledger = await ledger_with(welcome_credits="2.00")
    m = await market(ledger, database, paid=3 * CREDIT)
    node = await m.node()
    jobs = await m.serve(node, 5)
    await m.judge(node, *jobs[2:])
    assert (m.consumers, m.balance(accounts.promo(m.owner.person)), m.escrow(node)) == ((0, 3 * CREDIT), 2 * CREDIT, 0)


async def test_a_refund_is_as_much_as_is_there_and_what_lacks_is_told(ledger_with, database):
    ledger = await ledger_with(welcome_credits="3.00")
    m = await market(ledger, database, paid=0)
    node = await m.node()
    jobs = await m.serve(node, 3)
    await fund(database, m.owner.person, -2_250_000, accounts.promo)
    await m.judge(node, *jobs)
    assert m.consumers == (750_000, 0)
    lacking = execute(database, "SELECT (detail ->> 'lacking')::bigint FROM ledger.audit_log WHERE action = 'refund' ORDER BY 1")
    assert sum(amount for (amount,) in lacking) + 750_000 == 3 * CREDIT


async def test_what_the_owner_spends_at_the_moment_of_the_ban_comes_from_the_escrow(ledger_with, database, monkeypatch):
    ledger = await ledger_with(welcome_credits="1.00")
    m = await market(ledger, database, paid=3 * CREDIT)
    node = await m.node()
    jobs = await m.serve(node, 4)
    await m.judge(node, *jobs[1:3])
    look = forfeiture._open_purse

    async def spend_after_the_look(connection, node):
        purse = await look(connection, node)
        monkeypatch.setattr(forfeiture, "_open_purse", look)
        await fund(database, m.owner.person, -CREDIT, accounts.promo)
        return purse

    monkeypatch.setattr(forfeiture, "_open_purse", spend_after_the_look)
    await m.judge(node, jobs[0])
    assert m.consumers == (CREDIT, 2 * CREDIT)
    assert (m.escrow(node), m.forfeited(node), m.balance(accounts.promo(m.owner.person))) == (0, 0, 0)


async def test_a_job_that_is_found_out_after_the_ban_is_refunded_from_what_was_forfeited(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    jobs = await m.serve(node, 6)
    await m.offer(node, jobs[4])
    await m.judge(node, *jobs[:3])
    assert (m.consumers[1], m.forfeited(node)) == (97 * CREDIT, 2_700_000)
    for _ in range(2):
        said = await ledger.auditor.report_audit(verdict_on(jobs[4], is_flagged=True))
        assert (said.state, said.strikes) == ("banned", 4)
        assert (m.consumers[1], m.forfeited(node)) == (98 * CREDIT, 1_800_000)
    assert (await ledger.client.offer_audit(sample_of(node, jobs[5]))).status == "unwanted"


async def test_nobody_gets_money_back_twice(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    jobs = await m.serve(node, 4)
    await refund(ledger.context.database, jobs[0], "the operator was first", OPERATOR)
    await m.judge(node, *jobs[:3])
    assert m.consumers[1] == 99 * CREDIT
    with pytest.raises(PaymentEnded):
        await refund(ledger.context.database, jobs[1], "the operator is late", OPERATOR)
    assert m.consumers[1] == 99 * CREDIT


async def test_a_job_that_was_never_charged_or_ran_elsewhere_gives_nobody_money(ledger, database):
    m = await market(ledger, database)
    node, other = await m.node(), await m.node()
    (elsewhere,) = await m.serve(other)
    await m.serve(node)
    await m.judge(node, uuid.uuid4(), uuid.uuid4(), elsewhere)
    assert (m.consumers[1], m.escrow(other), m.forfeited(node)) == (98 * CREDIT, 900_000, 900_000)


async def test_of_a_job_that_two_nodes_served_each_answers_for_its_own_part(ledger, database):
    m = await market(ledger, database)
    node, other = await m.node(), await m.node()
    (shared,) = await m.serve(node, completion_tokens=4, shares=(Share(node=other, attempt=1, tokens=1),), attempt=2)
    assert (m.escrow(other), m.escrow(node)) == (225_000, 675_000)
    await m.judge(node, shared, *await m.serve(node, 2))
    assert (m.consumers[1], m.escrow(other)) == (100 * CREDIT - 325_000, 225_000)


async def test_other_nodes_of_the_owner_keep_what_they_earned(ledger, database):
    m = await market(ledger, database)
    bad, good = await m.node(), await m.node()
    await m.serve(good, 2)
    await m.judge(bad, *await m.serve(bad, 3))
    assert (m.escrow(bad), m.escrow(good)) == (0, 1_800_000)
    assert (await m.audits(good))["state"] == "active"


async def test_verdicts_of_one_moment_strike_one_after_the_other(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    jobs = await m.serve(node, 6)
    for job in jobs[:5]:
        await m.offer(node, job)
    verdicts = [verdict_on(job, is_flagged=True) for job in jobs[:5]] * 2
    said = await asyncio.gather(*(ledger.auditor.report_audit(one) for one in verdicts))
    assert sorted(one.status for one in said) == ["exists"] * 5 + ["ok"] * 5
    steps = execute(database, "SELECT step FROM ledger.node_step WHERE node_id = %s ORDER BY seq", [node])
    assert [step for (step,) in steps] == ["reaudit", "quarantine", "ban"]
    assert (m.consumers[1], m.escrow(node), m.forfeited(node)) == (99 * CREDIT, 0, 900_000)


async def test_a_ban_and_a_release_of_one_moment_share_the_escrow_without_a_rest(ledger, database):
    m = await market(ledger, database)
    nodes = [await m.node() for _ in range(3)]
    jobs = {node: await m.serve(node, 4) for node in nodes}
    for node in nodes:
        await m.judge(node, *jobs[node][:2])
        m.make(node, state="active")  # else nothing of it could be released
        await m.offer(node, jobs[node][2])
    releases = [Earnings(ledger.context.database, terms=payout_terms(timedelta())) for _ in range(3)]
    await asyncio.gather(
        *(ledger.auditor.report_audit(verdict_on(jobs[node][2], is_flagged=True)) for node in nodes), *(one.release() for one in releases)
    )
    for node in nodes:
        assert m.escrow(node) == 0
    rest = m.balance(accounts.earned(m.owner.person)) + sum(m.forfeited(node) for node in nodes)
    assert rest + (m.consumers[1] - 88 * CREDIT) + m.balance(accounts.FEES) == 12 * CREDIT


async def test_clean_audits_lead_back_to_the_share_of_the_tier(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    m.make(node, tier="verified", audit_percent=5)
    await m.judge(node, uuid.uuid4())
    assert (await m.audits(node))["audit_percent"] == 100
    await m.judge(node, *(uuid.uuid4() for _ in range(4)), is_flagged=False)
    await m.judge(node, uuid.uuid4(), is_flagged=False, rule="none")  # nothing was judged, so that it is no audit
    assert (await m.audits(node))["audit_percent"] == 100
    await m.judge(node, uuid.uuid4(), is_flagged=False, rule="B")
    assert (await m.audits(node))["audit_percent"] == 5
    assert m.told(node)[-1] == ("active", 5)


async def test_whoever_leaves_is_judged_all_the_same(ledger, database):
    m = await market(ledger, database)
    node = await m.node()
    jobs = await m.serve(node, 3)
    for job in jobs:
        await m.offer(node, job)
    assert (await m.owner.call("DELETE", f"nodes/{node}/")).status_code == 204
    for job, state in zip(jobs, ("deregistered", "quarantined", "banned"), strict=True):
        said = await ledger.auditor.report_audit(verdict_on(job, is_flagged=True))
        assert said.state == state
    assert m.consumers[1] == 100 * CREDIT
    assert (await m.agent.token(node)).status_code == 401  # its key did not come back

"""Samples and verdicts between Serve, the ledger and the auditor: offered once, taken by one, judged once, and gone in time."""

import asyncio

import httpx2
import pytest
from pydantic import ValidationError

from cluster.service_tokens import ServiceTokens
from ledger import wire
from ledger.app import create_internal_app
from ledger.client import CountAlarm, NotFound, NotPermitted, new_hold_id
from ledger.verification import samples
from tests.edge_agent import account, execute
from tests.ledger.auditing import sample_of, verdict_on
from tests.ledger.people import bearer


@pytest.fixture
async def node(ledger, database):
    """An agent's node."""
    owner = await account(ledger, database, "provider")
    return (await owner.enrolled())[1]


async def test_a_sample_is_offered_once_taken_by_one_and_its_text_goes_with_the_verdict(ledger, database, node):
    offered = sample_of(node, rule_inputs={"temperature": 0.8, "top_k": 40})
    assert [(await ledger.client.offer_audit(offered)).status for _ in range(2)] == ["ok", "exists"]
    taken = await asyncio.gather(*(ledger.auditor.take_audits(16) for _ in range(4)))
    (task,) = [task for tasks in taken for task in tasks]
    assert (task.id, task.job, task.node, task.sealed) == (offered.job, offered.job, node, "c2VhbGVk")
    assert task.rule_inputs == {"temperature": 0.8, "top_k": 40}
    assert task.node_key == execute(database, "SELECT public_key FROM ledger.node WHERE id = %s", [node])[0][0]

    first = await ledger.auditor.report_audit(verdict_on(task.id, detail="fine"))
    assert (first.status, first.node, first.state, first.strikes) == ("ok", node, "active", 0)
    again = await ledger.auditor.report_audit(verdict_on(task.id, is_flagged=True))  # another auditor, too late
    assert (again.status, again.strikes) == ("exists", 0)
    assert execute(database, "SELECT count(*) FROM ledger.audit_sample") == [(0,)]
    assert execute(database, "SELECT is_flagged, rule, detail FROM ledger.audit_verdict") == [(False, "A", "fine")]
    assert (await ledger.client.offer_audit(offered)).status == "exists"


async def test_a_lease_ends_and_so_does_a_sample(ledger, database, node):
    offered = sample_of(node)
    await ledger.client.offer_audit(offered)
    assert len(await ledger.auditor.take_audits()) == 1
    assert await ledger.auditor.take_audits() == ()
    execute(database, "UPDATE ledger.audit_sample SET leased_until = clock_timestamp() - interval '1 second'")
    assert len(await ledger.auditor.take_audits()) == 1
    execute(database, "UPDATE ledger.audit_sample SET leased_until = NULL, wanted_at = wanted_at - interval '73 hours'")
    assert await ledger.auditor.take_audits() == ()
    assert await ledger.context.samples.forget_old() == 1
    assert execute(database, "SELECT count(*) FROM ledger.audit_sample") == [(0,)]
    with pytest.raises(NotFound):
        await ledger.auditor.report_audit(verdict_on(offered.job))


async def test_samples_of_a_node_with_a_flag_come_first(ledger, database, node):
    other = (await (await account(ledger, database)).enrolled())[1]
    seen = sample_of(node)
    await ledger.client.offer_audit(seen)
    await ledger.auditor.take_audits()
    await ledger.auditor.report_audit(verdict_on(seen.job, is_flagged=True))
    for id_ in (other, node):
        await ledger.client.offer_audit(sample_of(id_))
    assert [task.node for task in await ledger.auditor.take_audits(1)] == [node]
    assert [task.node for task in await ledger.auditor.take_audits(1)] == [other]


async def test_so_many_wait_and_no_more(ledger, node, monkeypatch):
    monkeypatch.setattr(samples, "MAX_WAITING_OF_NODE", 2)
    assert [(await ledger.client.offer_audit(sample_of(node))).status for _ in range(3)] == ["ok", "ok", "full"]
    monkeypatch.setattr(samples, "MAX_WAITING_OF_NODE", 200)
    monkeypatch.setattr(samples, "MAX_WAITING", 2)
    assert (await ledger.client.offer_audit(sample_of(node))).status == "full"


async def test_trusted_unknown_and_banned_nodes_are_not_audited(ledger, database, node):
    execute(database, "UPDATE ledger.node SET state = 'banned' WHERE id = %s", [node])
    for unwanted in ("node_local", "node_nobody", node):
        assert (await ledger.client.offer_audit(sample_of(unwanted))).status == "unwanted"
    told = await ledger.client.alarm_count(CountAlarm(job=new_hold_id(), node="node_local", claimed=10, counted=5))
    assert told.status == "unwanted"


@pytest.mark.parametrize(
    "changes",
    [
        {"sealed": "x" * (wire.MAX_SEALED + 1)}, {"sealed": "not base64!"}, {"sealed": ""}, {"weights_sha256": "abc"},
        {"rule_inputs": {"prompt": "x" * wire.MAX_INPUTS}}, {"rule_inputs": {"a": "\0"}},
    ],
)  # fmt: skip
async def test_a_sample_has_its_limits(node, changes):
    with pytest.raises(ValidationError):
        sample_of(node, **changes)


async def test_a_flag_names_its_rule():
    with pytest.raises(ValidationError):
        verdict_on(new_hold_id(), is_flagged=True, rule="none")


async def test_each_service_has_its_own_verbs(ledger, node):
    with pytest.raises(NotPermitted):
        await ledger.client.take_audits()
    with pytest.raises(NotPermitted):
        await ledger.client.report_audit(verdict_on(new_hold_id()))
    with pytest.raises(NotPermitted):
        await ledger.auditor.offer_audit(sample_of(node))
    with pytest.raises(NotPermitted):
        await ledger.auditor.alarm_count(CountAlarm(job=new_hold_id(), node=node, claimed=1, counted=2))
    edge = ServiceTokens((ledger.folder / "service_edge.pem").read_bytes(), "edge").mint("ledger-internal")
    app = create_internal_app(ledger.context)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://internal") as http:
        for what in ("offer", "take", "report", "count-alarm"):
            path = f"/internal/v1/audits/{what}"
            assert (await http.post(path, json={})).status_code == 401
            is_edges = what == "count-alarm"  # it counts; an empty alarm is none
            assert (await http.post(path, json={}, headers=bearer(edge))).status_code == (400 if is_edges else 403)
        serve = ServiceTokens((ledger.folder / "service_serve.pem").read_bytes(), "serve").mint("ledger-internal")
        big = await http.post("/internal/v1/audits/offer", content=b"x" * (wire.MAX_SEALED * 2), headers=bearer(serve))
        assert (big.status_code, big.json()["code"], big.json()["fields"]["param"]) == (400, "invalid_request", "body")

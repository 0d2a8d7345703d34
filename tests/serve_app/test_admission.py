"""A model on an edge node gets consumers' jobs only once its canaries have passed: ledger, Dispatcher, edge gateway and desk are real."""

import asyncio
import contextlib
import json

import pytest

from ledger.audit_log import Origin
from ledger.client import AuditVerdict
from serve_app.canaries import desk as desks
from serve_app.canaries.desk import CanaryDesk
from tests.edge_agent import execute
from tests.edge_agents import inventory
from tests.edge_platform import running_edge_platform
from tests.serve_app.test_auditing import desk_of
from tests.waiting import until

DIGEST = "b" * 64
CANARIES = 4


def read(request):
    """How many tokens an honest agent's model reads."""
    return max(7, len(json.dumps(request)) // 4)


def cut(request):
    """A model with a context smaller than its agent says."""
    return min(7, read(request))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(desks, "LOOK_S", 0.1)
    monkeypatch.setattr("serve_app.feed.POLL_S", 0.1)


@pytest.fixture
async def world(database, ledger_with):
    ledger = await ledger_with(welcome_credits="10.00", admission_canaries=CANARIES)
    async with running_edge_platform(database, ledger) as made, desk_of(made.platform):
        yield made


@contextlib.asynccontextmanager
async def sending(world, count=1):
    """Let so many replicas send canaries."""
    desks_ = [CanaryDesk(world.platform.context, world.platform.ledger.client) for _ in range(count)]
    tasks = [asyncio.create_task(desk.run()) for desk in desks_]
    try:
        yield desks_
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def judge(ledger, **verdict):
    """Judge what waits; answers how many."""
    tasks = await ledger.auditor.take_audits(16)
    for task in tasks:
        await ledger.auditor.report_audit(AuditVerdict(id=task.id, **({"is_flagged": False, "rule": "A"} | verdict)))
    return len(tasks)


@contextlib.asynccontextmanager
async def judging(ledger, **verdict):
    """Let an auditor find the same of every answer."""

    async def work():
        while True:
            await judge(ledger, **verdict)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def state_of(database, node, model="m"):
    found = execute(database, "SELECT state, said FROM ledger.admission WHERE node_id = %s AND model = %s", [node, model])
    return found[0] if found else None


async def honest(world, **options):
    agent = await world.agent(digest=DIGEST, **{"words": 5} | options)
    agent.reads = read
    return agent


def offers_job(world, agent):
    return bool(world.seen(agent.identity.node).models) and world.seen(agent.identity.node).models[0].is_admitted


async def test_a_newcomer_is_online_at_once_and_gets_paid_jobs_after_its_canaries(world, database):
    agent = await honest(world)
    node = agent.identity.node
    assert world.seen(node).is_healthy
    assert (await world.platform.chat("m")).status_code == 404  # nobody is admitted for it
    async with sending(world), judging(world.platform.ledger):
        await until(lambda: offers_job(world, agent))
    assert state_of(database, node) == ("admitted", "Admitted: 4 canaries passed.")
    assert len(agent.offers) == CANARIES
    answer = await world.platform.chat("m")
    assert answer.status_code == 200, answer.text
    assert len(agent.offers) == CANARIES + 1
    assert await world.platform.settled() == "9.00"  # nobody paid for the canaries


@pytest.mark.nightly  # leans on a machine that is not busy: the second canary is judged within the test's wait
async def test_a_model_that_two_canaries_speak_against_never_gets_a_paid_job(world, database):
    agent = await honest(world)
    node = agent.identity.node
    async with sending(world), judging(world.platform.ledger, is_flagged=True):
        await until(lambda: (state_of(database, node) or ("",))[0] == "refused")
        assert (await world.platform.chat("m")).status_code == 404
    assert "You may appeal" in state_of(database, node)[1]
    assert execute(database, "SELECT state FROM ledger.node WHERE id = %s", [node]) == [("active",)]  # no strike: nobody had paid
    (row,) = (await agent.owner.nodes())[0]["admissions"]
    assert (row["state"], row["again_at"]) == ("refused", None)
    assert row["flagged"] >= 2
    assert row["wanted"] == CANARIES * (1 + row["flagged"])
    said = (await why(world, agent))["models"]
    assert [(one["offered"], one["why"]) for one in said] == [(False, state_of(database, node)[1])]
    offers = len(agent.offers)
    async with sending(world), judging(world.platform.ledger):  # a refusal for good is not tried again by itself, an appeal begins anew
        await asyncio.sleep(0.5)
        assert len(agent.offers) == offers
        answer = await agent.owner.call("POST", f"nodes/{node}/appeal/", json={"note": "the auditor was wrong"})
        assert answer.status_code == 201, answer.text
        await world.platform.ledger.context.appeals.decide(answer.json()["id"], is_upheld=True, answer="so it was", origin=Origin("test"))
        await until(lambda: offers_job(world, agent))


async def why(world, agent):
    answer = await world.platform.http.get(f"/api/computing/nodes/{agent.identity.node}/why/", headers=agent.owner.headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_prompt_that_is_cut_is_a_failure_and_tried_again_later(world, database):
    agent = await honest(world)
    agent.reads = cut
    node = agent.identity.node
    async with sending(world), judging(world.platform.ledger):
        await until(lambda: (state_of(database, node) or ("",))[0] == "refused")
        assert "it read 7 tokens of a prompt that has" in state_of(database, node)[1]
        assert (await world.platform.chat("m")).status_code == 404
        agent.reads = read
        execute(database, "UPDATE ledger.admission SET again_at = clock_timestamp()")
        await until(lambda: offers_job(world, agent))


async def test_where_nobody_can_judge_answers_are_enough_and_that_is_said(world, database):
    world.platform.context.audits = None
    agent = await honest(world)
    async with sending(world):
        await until(lambda: offers_job(world, agent))
    assert state_of(database, agent.identity.node) == ("admitted", "Admitted, not verified: the operator audits no answers.")


async def test_a_model_that_the_reference_lacks_is_admitted_and_said_to_be_not_verified(world, database):
    agent = await honest(world)
    async with sending(world), judging(world.platform.ledger, rule="none", why_not="no_copy"):
        await until(lambda: offers_job(world, agent))
    assert state_of(database, agent.identity.node)[1] == "Admitted, not verified: the operator has no copy of this model."


async def test_replicas_do_not_send_the_same_and_two_run_at_once(world, database):
    agents = [await honest(world, pace_s=0.05) for _ in range(3)]
    most = 0
    async with sending(world, count=3), judging(world.platform.ledger):
        for _ in range(1200):
            most = max(most, *(len(agent.logs) for agent in agents))
            if all(offers_job(world, agent) for agent in agents):
                break
            await asyncio.sleep(0.05)
    assert [len(agent.offers) for agent in agents] == [CANARIES] * 3
    assert most == 2
    kinds = execute(database, "SELECT kind, count(*)::int FROM ledger.canary GROUP BY kind ORDER BY kind")
    assert kinds == [("beside", 6), ("plain", 6)]


async def test_a_replica_that_dies_with_a_canary_on_its_way_costs_time_only(world, database):
    agent = await honest(world, pace_s=0.2)
    node = agent.identity.node
    async with sending(world), judging(world.platform.ledger):
        await until(lambda: agent.offers)
    async with sending(world), judging(world.platform.ledger):
        await asyncio.sleep(0.5)
        assert len(agent.offers) == 1  # it is leased to who died
        execute(database, "UPDATE ledger.canary SET leased_until = clock_timestamp()")
        await until(lambda: offers_job(world, agent), 30)
    assert len(agent.offers) == CANARIES + 1
    assert execute(database, "SELECT passed, failed FROM ledger.admission WHERE node_id = %s", [node]) == [(CANARIES, 0)]


async def test_other_weights_under_the_same_name_are_tested_anew_and_get_no_job_meanwhile(world, database):
    agent = await honest(world)
    async with sending(world), judging(world.platform.ledger):
        await until(lambda: offers_job(world, agent))
    await agent.socket.send(inventory(slots=2, digest="c" * 64))
    await until(lambda: world.seen(agent.identity.node).models[0].digest == "c" * 64)
    assert not offers_job(world, agent)
    assert (await world.platform.chat("m")).status_code == 404


async def test_a_long_one_fills_the_context_and_figures_are_told(world, database, monkeypatch):
    monkeypatch.setattr(world.platform.ledger.context.admissions, "_canaries", 6)
    agent = await honest(world, words=9, pace_s=0.02)
    async with sending(world), judging(world.platform.ledger):
        await until(lambda: offers_job(world, agent), 30)
    longest = max(len(offer["request"]["messages"][-1]["content"]) for offer in agent.offers)
    assert 0.8 * 8192 * 3 < longest < 8192 * 3
    (row,) = (await agent.owner.nodes())[0]["admissions"]
    assert (row["asked"], row["passed"]) == (6, 6)
    assert 20 < row["tokens_per_s"] < 60
    assert row["first_token_s"] > 0


async def test_what_a_busy_node_does_not_take_is_sent_again(world, database):
    agent = await honest(world)
    refuses = agent.take

    async def take(socket, frame):
        if frame["type"] == "offer" and not agent.refused:
            agent.refused = True
            await socket.send(type="reject", job=frame["job"], lease=frame["lease"], reason="busy")
        else:
            await refuses(socket, frame)

    agent.refused, agent.take = False, take
    async with sending(world), judging(world.platform.ledger):
        await until(lambda: offers_job(world, agent))
    assert execute(database, "SELECT passed, failed FROM ledger.admission") == [(CANARIES, 0)]
    assert agent.refused


async def test_canaries_go_on_after_admission_unpaid_and_audited_as_jobs_are(world, database):
    agent = await honest(world)
    context = world.platform.context
    context.settings = context.settings.model_copy(update={"canary_percent": 100.0})
    async with sending(world) as (desk,):
        context.canaries = desk
        async with judging(world.platform.ledger):
            await until(lambda: offers_job(world, agent))
        assert (await world.platform.chat("m")).status_code == 200
        await until(lambda: desk.counts["later"] == 1)
        await context.audits.drained()
    assert await world.platform.settled() == "9.00"
    assert await judge(world.platform.ledger, is_flagged=True) == 2
    assert execute(database, "SELECT state FROM ledger.node WHERE id = %s", [agent.identity.node]) == [("quarantined",)]


async def test_without_admission_a_newcomer_earns_at_once(database, ledger_with):
    ledger = await ledger_with(welcome_credits="10.00", admission_canaries=0)
    async with running_edge_platform(database, ledger) as world, sending(world):
        agent = await honest(world)
        assert (await world.platform.chat("m")).status_code == 200
        assert len(agent.offers) == 1
        assert (await agent.owner.nodes())[0]["admissions"] == []

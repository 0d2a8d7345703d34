"""Agents behind the edge gateway: what they answer is offered to be audited, and counts that are off reach the ledger as alarms."""

import pytest

from cluster.audit.sample import Sample
from cluster.edge.counting import Mismatch
from ledger.client import job_id
from tests.edge_agent import execute
from tests.edge_platform import running_edge_platform
from tests.serve_app.test_auditing import auditors_key, desk_of
from tests.waiting import until


@pytest.fixture
async def world(database, ledger_with):
    ledger = await ledger_with(welcome_credits="10.00")
    async with running_edge_platform(database, ledger) as made:
        yield made


async def test_an_agents_answer_is_offered_to_be_audited(world):
    platform = world.platform
    agent = await world.agent(words=6, digest="b" * 64)
    async with desk_of(platform) as desk:
        answer = (await platform.chat("m", temperature=0)).json()
        await desk.drained()
        assert desk.counts == {"ok": 1}
        (task,) = await platform.ledger.auditor.take_audits(5)
    assert task.node == agent.identity.node
    sample = Sample.opened(auditors_key(platform.ledger), task.sealed, job_id(task.job))
    assert sample.answer == answer["choices"][0]["message"]["content"]


async def test_counts_that_are_off_reach_the_ledger(world, database):
    agent = await world.agent(words=3)
    answer = await world.platform.chat("m")
    assert await world.platform.settled() == "9.00"
    edge = world.edges[0].edge
    for _ in range(2):  # the same job again is one alarm
        edge._alarm(Mismatch(node=agent.identity.node, job=answer.headers["x-gfe-job"], claimed=90, counted=3))
    await until(lambda: execute(database, "SELECT claimed, counted FROM ledger.count_alarm") == [(90, 3)])
    edge._alarm(Mismatch(node=agent.identity.node, job=answer.headers["x-gfe-job"], claimed=900, counted=150, kind="timing"))
    await until(lambda: execute(database, "SELECT claimed FROM ledger.count_alarm WHERE kind = 'timing'") == [(900,)])

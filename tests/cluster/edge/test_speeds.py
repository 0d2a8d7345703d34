"""Edge nodes are judged by how fast others with their GPU write the same model, as the edge gateway sees it."""

import asyncio

import pytest

from cluster.audit.timing import LEAST_JOBS, Timed
from tests.cluster.edge.test_restarts import driven, killed, port_of
from tests.edge_agents import DIGEST
from tests.waiting import until

CARD = "RTX 4090"
GPUS = [{"uuid": "gpu-0", "name": CARD, "vram_bytes": 24 * 1024**3}]
SLOW = 5.0  # tokens a second of the others


@pytest.fixture
async def edge(edge_with):
    found = []
    edge = await edge_with(alarm=found.append)
    edge.found = found
    for n in range(3):
        for _ in range(LEAST_JOBS):
            edge.gateway._timing.judge(f"peer_{n}", CARD, DIGEST, Timed(51, 60.0, 50 / SLOW), is_proven=True)
    return edge


async def test_an_answer_that_no_such_card_writes_is_told_once(edge):
    await edge.honest(edge.enroll(), words=40, gpus=GPUS)
    attempt = edge.attempt()
    end = (await edge.run(attempt))[-1]
    assert end.usage.completion_tokens == 40  # it is paid: a suspicion is none of the job's
    (found,) = edge.found
    assert (found.kind, found.node, found.job, found.counted) == ("timing", "node_edge", attempt.job, round(1.5 * SLOW))
    assert found.claimed > found.counted
    assert (edge.metric("too_fast_total"), edge.metric("count_mismatches_total")) == (1, 0)


@pytest.mark.parametrize("gpus", [[], [{"uuid": "gpu-0", "name": "H100", "vram_bytes": 1}], GPUS * 2])
async def test_other_cards_are_others(edge, gpus):
    await edge.honest(edge.enroll(), words=40, gpus=gpus)
    await edge.run(edge.attempt())
    assert edge.found == []


async def test_a_node_as_fast_as_the_others_and_a_short_answer_are_fine(edge):
    agent = await edge.honest(edge.enroll(), words=40, gpus=GPUS, pace_s=1 / SLOW)
    quick = await edge.honest(edge.enroll("node_short"), words=10, gpus=GPUS)
    await asyncio.gather(edge.run(edge.attempt()), edge.run(edge.attempt("node_short")))
    assert (edge.found, len(agent.offers), len(quick.offers)) == ([], 1, 1)


async def test_an_answer_that_began_before_a_restart_is_not_judged(edge, edge_with):
    """Nobody here knows when it was offered, and all that was said comes again at once."""
    await edge.honest(edge.enroll(), words=60, gpus=GPUS, pace_s=0.03, back_s=0.2)
    heard = []
    driving = asyncio.create_task(driven(edge, edge.attempt(), heard))
    await until(lambda: len(heard) > 10)
    await killed(edge)
    again = await edge_with(port=port_of(edge.agent_url), node_port=port_of(edge.url), alarm=edge.found.append)
    again.gateway._timing = edge.gateway._timing
    await asyncio.wait_for(driving, 30)
    assert (len(heard), edge.found) == (62, [])


async def test_what_proven_nodes_do_makes_the_limit_and_what_nodes_on_probation_do_does_not(edge):
    timing = edge.gateway._timing
    for node, tier in (("node_known", "verified"), ("node_new", "probation")):
        await edge.honest(edge.enroll(node, tier=tier), words=40, gpus=[{"uuid": "g", "name": "L4", "vram_bytes": 1}])
        await edge.run(edge.attempt(node))
    assert list(timing._seen["L4", DIGEST]) == ["node_known"]

"""Edge gateways that are killed, restarted and exchanged, and connections that break all the time: no token is lost or doubled."""

import asyncio
import random
from urllib.parse import urlsplit

import pytest

from cluster.errors import AttemptUnknown, NodeLost
from cluster.jobs import End, Text
from tests.edge_agents import words_of
from tests.waiting import until

STREAMS, CHUNKS = 20, 150


def port_of(url):
    return urlsplit(url).port


async def driven(edge, attempt, events):
    """Read an attempt as a driver does: when the connection breaks, attach where one was."""
    reading = edge.client.run(edge.url, attempt)
    while True:
        try:
            async for event in reading:
                assert event.seq == len(events)
                events.append(event)
                if isinstance(event, End):
                    return
            return
        except AttemptUnknown:
            raise
        except NodeLost:
            await asyncio.sleep(0.1)
            reading = edge.client.rejoin(edge.url, attempt, len(events))


async def killed(edge):
    """End an edge gateway as a killed process ends: no close frames, no last words, nothing kept."""
    for session in tuple(edge.gateway._sessions):
        session.wake = lambda: None
    edge.site._server.close()
    for runner in (edge.site._runner, edge.runner):
        for handler in tuple(runner.server.connections):
            if handler.transport is not None:
                handler.transport.abort()
        await runner.cleanup()
    await edge.gateway.aclose()


def texts(events):
    return "".join(event.content for event in events if isinstance(event, Text))


async def test_a_killed_edge_gateway_costs_no_token(edge_with):
    edge = await edge_with()
    agent = await edge.honest(edge.enroll(), words=60, pace_s=0.03, slots=4, back_s=0.2)
    attempts = [edge.attempt() for _ in range(4)]
    heard = {attempt.job: [] for attempt in attempts}
    driving = [asyncio.create_task(driven(edge, attempt, heard[attempt.job])) for attempt in attempts]
    await until(lambda: all(len(events) > 10 for events in heard.values()))
    await killed(edge)
    again = await edge_with(port=port_of(edge.agent_url), node_port=port_of(edge.url))
    await asyncio.wait_for(asyncio.gather(*driving), 30)
    for attempt in attempts:
        events = heard[attempt.job]
        assert [event.seq for event in events] == list(range(62))
        assert texts(events) == "".join(words_of(attempt.job, 60))
        assert events[-1].receipt is not None, "what was asked came back with the driver"
    assert agent.connects == 2
    await until(lambda: not agent.ends)
    assert again.node().running == 0


async def test_an_answer_that_ended_while_the_edge_gateway_was_away_is_still_delivered(edge_with):
    edge = await edge_with()
    agent = await edge.honest(edge.enroll(), words=10, pace_s=0.02, back_s=1.0)
    attempt, events = edge.attempt(), []
    driving = asyncio.create_task(driven(edge, attempt, events))
    await until(lambda: len(events) > 3)
    await killed(edge)
    await until(lambda: agent.ends)
    await edge_with(port=port_of(edge.agent_url), node_port=port_of(edge.url))
    await asyncio.wait_for(driving, 20)
    assert texts(events) == "".join(words_of(attempt.job, 10))
    await until(lambda: not agent.ends)


async def test_a_reader_may_begin_anywhere_in_a_rebuilt_log(edge_with):
    edge = await edge_with()
    await edge.honest(edge.enroll(), words=30, pace_s=0.05, back_s=0.1)
    attempt, events = edge.attempt(), []
    driving = asyncio.create_task(driven(edge, attempt, events))
    await until(lambda: len(events) > 5)
    await killed(edge)
    again = await edge_with(port=port_of(edge.agent_url), node_port=port_of(edge.url))
    await driving
    for seq in (0, 1, 7, 31):
        read = [event async for event in again.client.attach(again.url, attempt.job, 1, seq, node="node_edge")]
        assert read == events[seq:]


async def test_after_a_restart_nobody_is_told_too_early_that_an_attempt_is_unknown(edge_with):
    edge = await edge_with()
    identity = edge.enroll()
    with pytest.raises(NodeLost, match="503"):
        [event async for event in edge.client.attach(edge.url, "job_1", 1, 0, node="node_edge")]
    waiting = asyncio.create_task(anext(edge.client.attach(edge.url, "job_1", 1, 1, node="node_edge")))
    await asyncio.sleep(0.1)
    socket = await edge.ready(identity, resume=[{"job": "job_1", "lease": 1, "first_seq": 0, "next_seq": 1}])
    assert socket.welcome["resume"] == [{"job": "job_1", "lease": 1, "next_seq": 0}]
    await socket.send(type="chunk", job="job_1", lease=1, seq=0, delta={"content": "again"}, tokens=1)
    assert (await waiting).content == "again"


async def test_the_end_of_a_rebuilt_attempt_waits_for_its_driver(edge):
    socket = await edge.ready(edge.enroll(), resume=[{"job": "job_1", "lease": 1, "first_seq": 0, "next_seq": 1, "ended": True}])
    await socket.send(type="chunk", job="job_1", lease=1, seq=0, delta={"content": "x"}, tokens=1)
    await socket.send(type="end", job="job_1", lease=1, total=1, reason="stop", usage={"prompt_eval_count": 10**9, "eval_count": 10**9})
    follower = asyncio.create_task(_all(edge.client.attach(edge.url, "job_1", 1, 0, node="node_edge")))
    await asyncio.sleep(0.3)
    assert not follower.done()
    events = await _all(edge.client.rejoin(edge.url, edge.attempt(job="job_1", max_tokens=5), 0))
    assert events == await follower
    assert events[-1].usage.completion_tokens <= 2, "at most a token per byte of what was delivered"
    assert events[-1].usage.prompt_tokens < 1000


async def _all(events):
    return [event async for event in events]


async def test_what_an_agent_claims_to_have_and_nobody_wants_is_forgotten(edge, monkeypatch):
    monkeypatch.setattr("cluster.attempt_log.UNREAD_LIMIT_S", 0.2)
    monkeypatch.setattr("cluster.edge.edge_node.END_UNREAD_S", 0.2)
    monkeypatch.setattr("cluster.attempt_log.KEPT_AFTER_END_S", 0.2)
    held = [{"job": f"job_{n}", "lease": 1, "first_seq": 0, "next_seq": 1} for n in range(64)]
    await edge.ready(edge.enroll(), resume=held)
    node = edge.gateway._nodes["node_edge"]
    assert len(node.mirrors) == 64
    await until(lambda: not node.mirrors, 15)


async def test_a_claim_to_another_nodes_attempt_does_not_reach_its_driver(edge):
    """Seed defect D11: results of somebody else's job."""
    mine, thief = edge.enroll("node_mine"), edge.enroll("node_thief")
    agent = await edge.honest(mine, words=20, pace_s=0.02)
    attempt, events = edge.attempt("node_mine"), []
    driving = asyncio.create_task(driven(edge, attempt, events))
    await until(lambda: len(events) > 3)
    socket = await edge.ready(thief, resume=[{"job": attempt.job, "lease": 1, "first_seq": 0, "next_seq": 9, "ended": True}])
    assert socket.welcome["drop"][0]["reason"] == "unknown"
    await driving
    assert texts(events) == "".join(words_of(attempt.job, 20))
    assert agent.connects == 1


async def test_a_claim_after_a_restart_is_only_read_as_the_node_that_made_it(edge):
    thief = await edge.ready(edge.enroll("node_thief"), resume=[{"job": "job_1", "lease": 1, "first_seq": 0, "next_seq": 1}])
    await thief.send(type="chunk", job="job_1", lease=1, seq=0, delta={"content": "poison"}, tokens=1)
    await edge.ready(edge.enroll("node_mine"))
    with pytest.raises(AttemptUnknown):
        await _all(edge.client.rejoin(edge.url, edge.attempt("node_mine", job="job_1"), 0))


async def test_row_17_streams_with_connections_that_break_all_the_time_lose_no_chunk_and_double_none(edge, figure):
    """Row 17 of the fault matrix, at the edge gateway."""
    agent = await edge.honest(edge.enroll(), words=CHUNKS, pace_s=0.02, slots=STREAMS, back_s=0.02)
    # A test's agent may connect more often than others.
    edge.site_sockets._nodes._rate = edge.site_sockets._nodes._burst = 1000
    attempts = [edge.attempt() for _ in range(STREAMS)]
    heard = {attempt.job: [] for attempt in attempts}
    driving = asyncio.gather(*(driven(edge, attempt, heard[attempt.job]) for attempt in attempts))
    await until(lambda: all(heard.values()))  # an offer whose connection breaks begins nothing: that is another test
    rng, aborts = random.Random(7), 0
    while not driving.done():
        await asyncio.sleep(rng.uniform(0.1, 0.5))
        if agent.is_ready.is_set():
            agent.socket.abort()
            aborts += 1
    await driving
    for attempt in attempts:
        assert [event.seq for event in heard[attempt.job]] == list(range(CHUNKS + 2))
        assert texts(heard[attempt.job]) == "".join(words_of(attempt.job, CHUNKS))
    assert aborts >= 5
    figure(17, "chunks through the edge gateway, all there once, and connections that broke", f"{STREAMS * CHUNKS}, {aborts}")


async def test_two_edge_gateways_side_by_side_the_newest_connection_tells(edge_with):
    one, other = await edge_with(), await edge_with()
    identity = one.enroll()
    old = await one.ready(identity)
    new = await other.ready(identity)
    assert new.welcome["epoch"] > old.welcome["epoch"]
    await until(lambda: other.node() and other.node().is_healthy)
    assert other.node().epoch > one.node().epoch

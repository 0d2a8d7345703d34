"""Agents that mean harm: whatever they do, others are served, nothing is told twice, and memory stays bounded."""

import asyncio
import contextlib
import json
import resource

import aiohttp

from cluster.errors import ClusterError
from cluster.jobs import Text
from tests.cluster.waiting import until
from tests.edge_agents import connect, words_of

CONNECTS = 2000
WORDS = 10


def text_of(events):
    return "".join(event.content for event in events if isinstance(event, Text))


async def served(edge, times=5):
    """Jobs on the good node, each answered whole."""
    for _ in range(times):
        attempt = edge.attempt("node_good")
        assert text_of(await edge.run(attempt)) == "".join(words_of(attempt.job, WORDS))


async def test_everything_at_once(edge):
    good = await edge.honest(edge.enroll("node_good"), words=WORDS, slots=4)
    identities = [edge.enroll(f"node_{n}") for n in range(8)]
    victim = edge.attempt("node_good")

    async def floods(identity):
        socket = await edge.ready(identity)
        with contextlib.suppress(ConnectionError, AssertionError, aiohttp.ClientError, TimeoutError):
            for n in range(5000):
                await socket.send(type="chunk", job=victim.job, lease=1, seq=n, delta={"content": "poison"}, tokens=9)
            await socket.closed()

    async def says_nonsense(identity):
        socket = await edge.ready(identity)
        with contextlib.suppress(ConnectionError, AssertionError, aiohttp.ClientError, TimeoutError):
            for _ in range(100):
                await socket.ws.send_str(json.dumps({"type": "inventory", "runtime": "x", "slots": 10**9, "models": "all of them"}))
            await socket.closed()

    async def giant(identity):
        socket = await edge.ready(identity)
        with contextlib.suppress(ConnectionError, AssertionError, aiohttp.ClientError, TimeoutError):
            await socket.ws.send_str("[" * 10_000_000)
            await socket.closed()

    async def stalls(identity):
        """Takes what it is offered, and never reads again."""
        socket = await edge.ready(identity, slots=1024)
        socket.ws._response.connection.transport.pause_reading()
        offers = [asyncio.create_task(edge.run(edge.attempt(identity.node, request={"prompt": "x" * 200_000}))) for _ in range(40)]
        await asyncio.gather(*offers, return_exceptions=True)

    attacks = [
        asyncio.create_task(attack(identity))
        for attack, identity in zip((floods, floods, says_nonsense, says_nonsense, giant, giant, stalls, stalls), identities, strict=True)
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await served(edge, 20)
    await asyncio.gather(*attacks)
    await served(edge)
    assert good.connects == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB
    assert sum(session.out_bytes for session in edge.gateway._sessions) < 3 * 4 * 1024 * 1024


async def test_thousands_of_connects(edge):
    """With no token, with a bad one, and with a good one far too often."""
    await edge.honest(edge.enroll("node_good"), words=WORDS)
    identity = edge.enroll("node_storm")
    token = edge.issuer.token(identity)
    gate, statuses = asyncio.Semaphore(50), []

    async def once(n):
        async with gate:
            try:
                socket = await connect(edge.agent_url, token if n % 2 else "bad")
            except aiohttp.WSServerHandshakeError as refused:
                statuses.append(refused.status)
            except aiohttp.ClientError:
                statuses.append(0)
            else:
                statuses.append(101)
                await socket.aclose()

    storm = asyncio.gather(*(once(n) for n in range(CONNECTS)))
    await served(edge, 10)
    await storm
    await served(edge)
    assert set(statuses) <= {101, 401, 429}
    assert statuses.count(429) > CONNECTS * 0.8
    await until(lambda: edge.gateway.connections == 1)
    assert len(edge.site_sockets._nodes._kept) <= 3


async def test_a_reader_that_stalls_hurts_itself_alone(edge):
    agent = await edge.honest(edge.enroll("node_good"), words=WORDS, slots=4)
    big = await edge.ready(edge.enroll("node_big"))
    attempt = edge.attempt("node_big")
    stalled = aiohttp.ClientSession()
    from cluster.node_wire import attempt_json

    asked = asyncio.create_task(
        stalled.post(f"{edge.url}/v1/attempts", json=attempt_json(attempt), headers={"Authorization": f"Bearer {edge.client._token()}"})
    )
    await big.until("offer")
    await big.send(type="accept", job=attempt.job, lease=1)
    answer = await asked
    answer.connection.transport.pause_reading()
    for seq in range(9):
        await big.send(type="chunk", job=attempt.job, lease=1, seq=seq, delta={"content": "x" * 100_000}, tokens=1)
        await big.until("ack", seq=seq + 1)
    await served(edge, 10)
    mirror = edge.gateway._nodes["node_big"].mirrors[attempt.job, 1]
    assert mirror.log.size_bytes < 2 * 1024 * 1024
    assert agent.connects == 1
    await stalled.close()


async def test_an_agent_that_replays_old_answers_is_not_paid_again(edge):
    """An ended attempt, said again in another connection, in full."""
    identity = edge.enroll()
    agent = await edge.honest(identity, words=3)
    attempt = edge.attempt()
    await edge.run(attempt)
    await until(lambda: not agent.ends)
    await agent.stop()
    socket = await edge.ready(identity, resume=[{"job": attempt.job, "lease": 1, "first_seq": 0, "next_seq": 3, "ended": True}])
    for seq in range(3):
        await socket.send(type="chunk", job=attempt.job, lease=1, seq=seq, delta={"content": "again "}, tokens=1)
    await socket.send(type="end", job=attempt.job, lease=1, total=3, reason="stop", usage={"eval_count": 3})
    await socket.until("ack", end=True)
    assert edge.metric("counted_total", by="provider") == 1
    with contextlib.suppress(ClusterError):
        events = [event async for event in edge.client.attach(edge.url, attempt.job, 1, 0, node="node_edge")]
        assert "again" not in text_of(events)

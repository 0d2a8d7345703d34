"""Agents that mean harm: whatever they do, others are served, nothing is told twice, and memory stays bounded."""

import asyncio
import contextlib
import itertools
import json
import os
import resource
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from cluster.edge.addresses import networks_of
from cluster.edge.site import MAX_PENDING
from cluster.errors import ClusterError, NodeLost
from cluster.jobs import Text
from tests.cluster.edge.test_handshake import refusal
from tests.edge_agents import words_of
from tests.waiting import until

ROOT = Path(__file__).parents[3]
WORDS = 10
HONEST, STREAMED, PACE_S = 4, 50, 0.02  # agents that stream, words of each answer, seconds between two
HELD = 400  # connections that are held half-open all the time
GAP_LIMIT_S = 60.0  # generous, for a busy machine: it only says that nobody is shut out


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


class Streams:
    """Jobs one after the other on each of some honest agents; each answer is checked, and the longest time without a word is noted."""

    def __init__(self, edge):
        self.edge, self.answers, self.again, self.longest_gap_s, self.tasks = edge, 0, 0, 0.0, []

    def start(self, node):
        self.tasks.append(asyncio.create_task(self.run(node)))

    async def run(self, node):
        while True:
            await self.answer(node, STREAMED)
            self.answers += 1

    async def answer(self, node, words):
        """One job. An offer that was not answered within its second is made again, as drivers do; what began is heard to its end."""
        attempt, heard, at = self.edge.attempt(node), [], time.monotonic()
        try:
            async for event in self.edge.client.run(self.edge.url, attempt):
                now = time.monotonic()
                self.longest_gap_s, at = max(self.longest_gap_s, now - at), now
                heard.append(event)
        except NodeLost:
            assert not heard
            self.again += 1
            await self.answer(node, words)
            return
        assert [event.seq for event in heard] == list(range(len(heard)))
        assert text_of(heard) == "".join(words_of(attempt.job, words))

    async def stop(self):
        for task in self.tasks:
            task.cancel()
        for ended in await asyncio.gather(*self.tasks, return_exceptions=True):
            if not isinstance(ended, asyncio.CancelledError):
                raise ended


async def newcomers(edge, streams, waits):
    """Agents that connect for the first time in the middle of it, with a good token: none is refused, and each gets a job done."""
    for n in itertools.count():
        began = time.monotonic()
        agent = await edge.honest(edge.enroll(f"node_new_{n}"), words=WORDS)
        assert not agent.refused
        waits.append(time.monotonic() - began)
        await streams.answer(agent.identity.node, WORDS)
        await agent.stop()
        await asyncio.sleep(0.5)


async def strangers_elsewhere(edge, statuses):
    """Somebody at another address behind the same proxy whose token is a little too old."""
    expired = edge.issuer.token(edge.enroll("node_late"), lives_s=-120)
    while True:
        statuses.append((await refusal(edge, expired, headers={"X-Forwarded-For": "203.0.113.9"}))[0])
        await asyncio.sleep(2)


def rss_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def busiest(edge, seen):
    """The most of memory, and of connections that have asked nothing yet."""
    while True:
        seen["rss"], seen["pending"] = max(seen["rss"], rss_mib()), max(seen["pending"], len(edge.site._patience))
        await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_thousands_of_connects(edge_with, request, figure):
    """Of strangers, in a process of its own, while honest agents of this edge gateway stream: none of their words is lost or late.

    10,000; on a machine that is in a hurry, fewer by `--connects`.
    """
    connects = request.config.getoption("--connects")
    edge = await edge_with(trusted=networks_of("127.0.0.1"))
    streams = Streams(edge)
    for n in range(HONEST):
        await edge.honest(edge.enroll(f"node_{n}"), words=STREAMED, pace_s=PACE_S)
        streams.start(f"node_{n}")
    await until(lambda: streams.answers >= HONEST)
    quiet_gap_s, streams.longest_gap_s = streams.longest_gap_s, 0.0
    files, rss = descriptors(), rss_mib()
    waits, late, seen = [], [], {"rss": 0, "pending": 0}
    beside = [asyncio.create_task(one) for one in (newcomers(edge, streams, waits), strangers_elsewhere(edge, late), busiest(edge, seen))]

    token = edge.issuer.token(edge.enroll("node_storm"))
    command = [
        sys.executable,
        "-m",
        "tests.cluster.edge.storm",
        "--url",
        edge.agent_url,
        "--token",
        token,
        "--connects",
        str(connects),
        "--held",
        str(HELD),
    ]
    storm = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    said = json.loads((await storm.communicate())[0])

    for task in beside:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    answers = streams.answers
    await until(lambda: streams.answers >= answers + HONEST)
    await streams.stop()
    for what, count in (
        ("connects", f"{connects} in {said['seconds']:.1f} s"),
        ("held half-open at once", said["held_most"]),
        *said["told"].items(),
    ):
        figure("hostile", what, count)
    figure(
        "hostile",
        "answers of honest agents meanwhile",
        f"{answers}, the longest gap {streams.longest_gap_s:.2f} s (without the storm {quiet_gap_s:.2f} s)",
    )
    figure("hostile", "offers that were made again", streams.again)
    figure("hostile", "newcomers with a good token", f"{len(waits)}, the slowest in {max(waits):.2f} s")
    figure("hostile", "memory", f"{rss:.0f} MiB before, {seen['rss']:.0f} at most, {rss_mib():.0f} after")

    told = said["told"]
    assert not [what for what in told if what.endswith((": 500", ": silent"))]
    assert told["no token: 429"] > 0.5 * connects / 8
    assert told["a forged token: 429"] > 0.5 * connects / 8
    assert told["a good token, too often: 429"] > 0.5 * connects / 8
    assert set(late) == {401}, "a flood from another address is nothing to them"
    assert said["held_most"] > 0.8 * HELD
    assert seen["pending"] <= MAX_PENDING
    assert waits
    assert max(waits) < GAP_LIMIT_S
    assert streams.longest_gap_s < GAP_LIMIT_S
    assert seen["rss"] - rss < 200
    # Each answer counted once, and nothing for anybody else. The last jobs were left in the middle.
    ended = edge.metric("counted_total", by="provider")
    assert streams.answers + len(waits) <= ended <= streams.answers + len(waits) + HONEST + 1
    assert edge.metric("foreign_frames_total") == 0
    assert edge.metric("stale_frames_total") == 0 or streams.again
    assert len(edge.site_sockets._strangers) <= 3
    await edge.stack.aclose()
    await until(lambda: edge.gateway.connections == 0 and len(edge.site._patience) == 0)
    await until(lambda: descriptors() <= files)


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

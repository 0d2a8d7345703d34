"""What agents cost an edge gateway: many that connect at once, many that do nothing, and streams whose connections break all the time.

The edge gateway is a process of its own (without a ledger: it is told the nodes and the key that signs tokens); the agents are raw sockets in
this process, and one watch of the node protocol is open, as the Dispatcher's is. All agents connect at the same moment, which is worse than
the jitter of real ones.

    .venv/bin/python -m bench.edge [--json] [--agents 50,500] [--idle-s 60] [--streams 60] [--chunks 600]

Figures: seconds until the watch tells that all are back; CPU-ms of the edge gateway per registration (connect, token, hello, inventory, news
to the watch); CPU-ms per idle agent and minute; chunks lost and doubled.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import aiohttp

from bench.machine import cpu_ms, machine
from cluster.edge.counting import ReferenceCounter
from cluster.edge.facts import NodeFacts
from cluster.edge.gateway import EdgeGateway
from cluster.edge.metrics import EdgeMetrics
from cluster.edge.site import AgentSite
from cluster.edge.sockets import AgentSockets
from cluster.edge.tokens import AgentVerifier
from cluster.errors import NodeLost
from cluster.jobs import Attempt, End, JobKind, Text
from cluster.node_api import serve_node
from cluster.node_client import NodeClient
from cluster.service_tokens import ServiceTokens, TokenVerifier
from serve_app.local.secrets import make_service_key
from tests.edge_agents import DIGEST, HonestAgent, Identity, Issuer, connect, inventory, words_of

BACK_LIMIT_S = 120.0
HEARTBEAT_S = 10.0


# --- the edge gateway's process -----------------------------------------------------------------------------------------------------------


async def serve(told: dict[str, Any]) -> None:
    """Run an edge gateway until standard input ends."""
    known = {node: NodeFacts(name=node, state="active", tier="verified", key=key) for node, key in told["nodes"].items()}

    async def fetch() -> dict[str, Any]:
        return dict(told["jwks"])

    async def find(node: str) -> NodeFacts | None:
        return known.get(node)

    verifier = AgentVerifier(fetch)
    gateway = EdgeGateway(known.get, verifier, ReferenceCounter(None), EdgeMetrics())
    gateway.start()
    sockets = AgentSockets(gateway, verifier, find, max_agents=10_000)
    site = AgentSite(sockets, "127.0.0.1", 0)
    agent_url = await site.start()
    _, node_url = await serve_node(gateway, TokenVerifier(Path(told["key"]).read_bytes(), "node"), "127.0.0.1", 0)
    sys.stdout.write(json.dumps({"agents": agent_url, "nodes": node_url}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


class Edge:
    """The process, seen from here."""

    def __init__(self, process: asyncio.subprocess.Process, urls: dict[str, str], client: NodeClient, issuer: Issuer) -> None:
        self.process, self.agent_url, self.node_url, self.client, self.issuer = process, urls["agents"], urls["nodes"], client, issuer
        self.healthy: dict[str, bool] = {}
        self.epochs: dict[str, int] = {}
        self.watching = asyncio.create_task(self.watch())

    async def watch(self) -> None:
        """Hear the nodes' news, as the Dispatcher does."""
        async for node in self.client.watch(self.node_url):
            if node is not None:
                self.healthy[node.id] = node.is_healthy
                self.epochs[node.id] = node.epoch

    @property
    def cpu_ms(self) -> float:
        """CPU time of the process so far."""
        return cpu_ms(self.process.pid)


@contextlib.asynccontextmanager
async def running(identities: list[Identity]) -> Any:
    """Start an edge gateway that knows these nodes."""
    issuer = Issuer()
    with tempfile.TemporaryDirectory() as folder:
        make_service_key(Path(folder), "serve")
        tokens = ServiceTokens((Path(folder) / "service_serve.pem").read_bytes(), "serve")
        told = {"jwks": issuer.jwks, "nodes": {one.node: one.jkt for one in identities}, "key": f"{folder}/service_serve.pub.pem"}
        (Path(folder) / "told").write_text(json.dumps(told))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.edge", "--serve", f"{folder}/told", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdin is not None
        urls = json.loads(await process.stdout.readline())
        draining = asyncio.create_task(process.stdout.read())  # what it logs; a full pipe would stop it
        client = NodeClient(lambda: tokens.mint("node"))
        await client.start()
        edge = Edge(process, urls, client, issuer)
        try:
            yield edge
        finally:
            edge.watching.cancel()
            await asyncio.gather(edge.watching, return_exceptions=True)
            await client.aclose()
            process.stdin.close()
            await process.wait()
            await draining


# --- what is measured ---------------------------------------------------------------------------------------------------------------------


class Idle:
    """An agent that only lives: connects, says what there is, beats; again at once when its connection breaks."""

    def __init__(self, edge: Edge, identity: Identity) -> None:
        self.edge, self.identity = edge, identity
        self.token = edge.issuer.token(identity)
        self.socket: Any = None
        self.tries = 0
        self.task = asyncio.create_task(self.run())

    async def run(self) -> None:
        """Live until it is canceled."""
        while True:
            self.socket = None
            try:
                self.tries += 1
                self.socket = await connect(self.edge.agent_url, self.token)
                await self.socket.send(type="hello", versions=[1], agent_version="0.1.0", boot_id="b")
                await self.socket.until("welcome", BACK_LIMIT_S)
                await self.socket.send(inventory())
                await self.live()
            except (aiohttp.ClientError, OSError, AssertionError):
                await asyncio.sleep(1 if self.socket is None else 0)
            finally:
                if self.socket:
                    await self.socket.aclose()

    async def live(self) -> None:
        """Beat, and hear, until the connection ends."""
        n, beat_at = 0, time.monotonic() + random.uniform(0, HEARTBEAT_S)
        while True:
            with contextlib.suppress(TimeoutError):
                if (await self.socket.heard(max(0.01, beat_at - time.monotonic())))["type"] == "closed":
                    return
            if time.monotonic() >= beat_at:
                n, beat_at = n + 1, beat_at + HEARTBEAT_S
                await self.socket.send(type="heartbeat", n=n, slots_free=2)


async def until_all(edge: Edge, count: int, *, are: bool) -> None:
    """Wait until so many are well, or none is."""
    async with asyncio.timeout(BACK_LIMIT_S):
        while sum(edge.healthy.values()) != (count if are else 0):
            await asyncio.sleep(0.02)


async def storm(count: int, idle_s: float) -> dict[str, Any]:
    """Let so many connect; break all their connections at one moment; then let them do nothing."""
    identities = [Identity(f"node_{n}") for n in range(count)]
    async with running(identities) as edge:
        agents = [Idle(edge, one) for one in identities]
        await until_all(edge, count, are=True)
        tries = sum(agent.tries for agent in agents)
        epochs = dict(edge.epochs)
        before, began = edge.cpu_ms, time.monotonic()
        for agent in agents:
            agent.socket.abort()
        async with asyncio.timeout(BACK_LIMIT_S):
            while sum(edge.healthy.values()) < count or any(edge.epochs[node] == epoch for node, epoch in epochs.items()):
                await asyncio.sleep(0.02)
        took_s, used = time.monotonic() - began, edge.cpu_ms - before
        tried = sum(agent.tries for agent in agents) - tries
        figures = {"agents": count, "back_s": round(took_s, 2), "connects": tried, "cpu_ms_per_registration": round(used / tried, 2)}
        if idle_s:
            await asyncio.sleep(2)
            before, began = edge.cpu_ms, time.monotonic()
            await asyncio.sleep(idle_s)
            figures["cpu_ms_per_idle_agent_minute"] = round((edge.cpu_ms - before) / count * 60 / (time.monotonic() - began), 2)
        for agent in agents:
            agent.task.cancel()
        await asyncio.gather(*(agent.task for agent in agents), return_exceptions=True)
        return figures


async def drive(edge: Edge, attempt: Attempt, events: list[Any]) -> None:
    reading = edge.client.run(edge.node_url, attempt)
    while True:
        try:
            async for event in reading:
                events.append(event)
                if isinstance(event, End):
                    return
        except NodeLost:
            await asyncio.sleep(0.1)
            reading = edge.client.rejoin(edge.node_url, attempt, len(events))


async def streams(count: int, chunks: int) -> dict[str, Any]:
    """Run streams over one agent whose connection breaks every 0.1 to 0.5 s, as soon as it may connect again."""
    identity = Identity("node_streams")
    async with running([identity]) as edge:
        agent = HonestAgent(
            edge.agent_url, identity, lambda: edge.issuer.token(identity), words=chunks, pace_s=0.05, slots=count, back_s=0.1
        )
        await agent.is_ready.wait()
        await until_all(edge, 1, are=True)
        attempts = [
            Attempt(
                job=f"job_{uuid.uuid4().hex}", number=1, node=identity.node, kind=JobKind.CHAT, model="m", model_digest=DIGEST,
                request={"messages": []}, max_tokens=chunks,
            )
            for _ in range(count)
        ]  # fmt: skip
        heard: dict[str, list[Any]] = {attempt.job: [] for attempt in attempts}
        began, before = time.monotonic(), edge.cpu_ms
        driving = asyncio.gather(*(drive(edge, attempt, heard[attempt.job]) for attempt in attempts))
        aborts = 0
        while not driving.done():
            await asyncio.sleep(random.uniform(0.1, 0.5))
            if agent.is_ready.is_set():
                agent.socket.abort()
                aborts += 1
        await driving
        lost = doubled = other = 0
        for attempt in attempts:
            events = heard[attempt.job]
            seqs = [event.seq for event in events]
            doubled += len(seqs) - len(set(seqs))
            lost += chunks + 2 - len(set(seqs))
            other += "".join(event.content for event in events if isinstance(event, Text)) != "".join(words_of(attempt.job, chunks))
        await agent.stop()
        return {
            "streams": count, "chunks": chunks, "aborts": aborts, "lost": lost, "doubled": doubled, "other_texts": other,
            "seconds": round(time.monotonic() - began, 1), "cpu_us_per_chunk": round(1000 * (edge.cpu_ms - before) / (count * chunks)),
        }  # fmt: skip


async def main(asked: argparse.Namespace) -> None:
    figures: dict[str, Any] = {"machine": machine()}
    figures["registrations"] = [await storm(int(count), asked.idle_s if n else 0) for n, count in enumerate(asked.agents.split(","))]
    if asked.streams:
        figures["streams"] = await streams(asked.streams, asked.chunks)
    print(json.dumps(figures) if asked.json else json.dumps(figures, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--agents", default="50,500")
    parser.add_argument("--idle-s", type=float, default=60)
    parser.add_argument("--streams", type=int, default=60)
    parser.add_argument("--chunks", type=int, default=600)
    parser.add_argument("--serve")
    options = parser.parse_args()
    asyncio.run(serve(json.loads(Path(options.serve).read_text())) if options.serve else main(options))

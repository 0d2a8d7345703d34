"""One installation under measurement: started in a throw-away home, with a scripted runtime as the model, loaded, and its processes watched."""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench.machine import cpu_ms, descendants, processes_like

MODEL, PROMPT, MAX_TOKENS = "fake:words=16", "Say sixteen words.", 64
SLOTS = 256
ROLES = {
    "haproxy": ("bin/haproxy",),
    "replica": ("ServeReplica:gfe",),
    "bare replica": ("ServeReplica:bare",),
    "bare worker": ("BareWorker",),
    "worker": ("ray::Worker",),
    "dispatcher": ("ray::Dispatcher",),
    "ledger": ("ledger.cli",),
    "postgres": ("postgres",),
    "stub": ("scripted_runtime",),
    "litellm": ("bin/litellm",),
}
OURS = ("haproxy", "replica", "worker", "dispatcher", "ledger", "postgres", "stub")
WARM_S = 0.5


def chat(*, stream: bool) -> dict[str, Any]:
    """Write a chat as OpenAI's clients do."""
    return {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "stream": stream, "max_tokens": MAX_TOKENS}


@dataclass(frozen=True, slots=True)
class Target:
    """What is loaded: where, with which key and body, and whose processes answer."""

    url: str
    roles: tuple[str, ...]
    key: str = ""
    body: Callable[..., dict[str, Any]] = chat


@dataclass(slots=True)
class Sample:
    """One measured stretch: requests done, CPU per role, first-token times."""

    requests: int = 0
    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    first_ms: list[float] = field(default_factory=list)

    def add(self, other: "Sample") -> None:
        """Put another stretch of the same kind to this one."""
        self.requests += other.requests
        self.seconds += other.seconds
        self.first_ms += other.first_ms
        for role, used in other.cpu.items():
            self.cpu[role] = self.cpu.get(role, 0.0) + used

    def per_request(self, roles: tuple[str, ...]) -> float:
        """CPU-ms per request of the roles."""
        return sum(self.cpu.get(role, 0.0) for role in roles) / max(1, self.requests)

    def split(self, roles: tuple[str, ...]) -> dict[str, float]:
        """CPU-ms per request of each role that used any."""
        return {role: round(self.cpu[role] / self.requests, 3) for role in roles if self.cpu.get(role)}

    def per_s(self) -> int:
        """Requests per second."""
        return round(self.requests / self.seconds)

    def first_p50(self) -> float:
        """The middle time to the first byte, in ms."""
        return round(statistics.median(self.first_ms), 1)


@dataclass(slots=True)
class Pair:
    """Two targets under the same load, and the ratio of their CPU-ms per request in each round."""

    one: Sample = field(default_factory=Sample)
    other: Sample = field(default_factory=Sample)
    ratios: list[float] = field(default_factory=list)


async def one_request(session: aiohttp.ClientSession, target: Target, *, stream: bool) -> float:
    """Send one request, read its answer to the end; tell the time to the first byte of content, in ms."""
    headers = {"Authorization": f"Bearer {target.key}"}
    started = time.perf_counter()
    async with session.post(target.url, json=target.body(stream=stream), headers=headers) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{target.url} answered {answer.status}: {(await answer.text())[:200]}")
        first = 0.0
        async for _ in answer.content.iter_any():
            first = first or (time.perf_counter() - started) * 1000
        return first


async def load(send: Callable[[], Awaitable[float]], *, in_flight: int, seconds: float) -> list[float]:
    """Keep `in_flight` requests running for `seconds`; tell the time to the first byte of each."""
    until = time.monotonic() + seconds
    firsts: list[float] = []

    async def one_client() -> None:
        while time.monotonic() < until:
            firsts.append(await send())

    await asyncio.gather(*(one_client() for _ in range(in_flight)))
    return firsts


class Bench:
    """One installation under measurement, and what it is compared with."""

    def __init__(self, status: dict[str, Any], roots: set[int]) -> None:
        self.roots = {status["supervisor_pid"]} | roots
        self.api_url, self.key = status["api_url"], status["api_key"]
        self.ours = self.route("/v1/chat/completions", chat)

    def route(self, path: str, body: Callable[..., dict[str, Any]]) -> Target:
        """Tell what is loaded where a route of ours is."""
        return Target(self.api_url + path, OURS, self.key, body)

    def pids(self) -> dict[str, list[int]]:
        """Find the processes of each role."""
        return processes_like(ROLES, descendants(self.roots))

    async def measure(self, target: Target, *, stream: bool, in_flight: int, seconds: float) -> Sample:
        """Load one target and measure."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def send() -> float:
                return await one_request(session, target, stream=stream)

            await load(send, in_flight=in_flight, seconds=WARM_S)
            pids = self.pids()
            before = {role: sum(map(cpu_ms, found)) for role, found in pids.items()}
            started = time.monotonic()
            firsts = await load(send, in_flight=in_flight, seconds=seconds)
            elapsed = time.monotonic() - started
            cpu = {role: sum(map(cpu_ms, found)) - before[role] for role, found in pids.items()}
        return Sample(requests=len(firsts), seconds=elapsed, cpu=cpu, first_ms=firsts)

    async def alternate(self, one: Target, other: Target, *, stream: bool, in_flight: int, seconds: float, rounds: int) -> Pair:
        """Load two targets in turn; each round begins with the one that the round before ended with, so that neither is always the first."""
        pair = Pair()
        for number in range(rounds):
            found: dict[Target, Sample] = {}
            for target in (one, other) if number % 2 == 0 else (other, one):
                found[target] = await self.measure(target, stream=stream, in_flight=in_flight, seconds=seconds)
            pair.one.add(found[one])
            pair.other.add(found[other])
            pair.ratios.append(round(found[one].per_request(one.roles) / found[other].per_request(other.roles), 3))
        return pair


def shape_name(*, stream: bool) -> str:
    """Name what was asked for, as the figures do."""
    return "stream of 16 chunks" if stream else "plain"


def start_installation(home: Path, stub_url: str, port_base: int) -> dict[str, Any]:
    """Run `gfe up --detach` in a throw-away home; tell its status."""
    environment = {
        **os.environ,
        "GFE_HOME": str(home),
        "GFE_OLLAMA_URL": stub_url,
        "GFE_SLOTS": str(SLOTS),
        "GFE_REPLICAS": "1",
        "GFE_OPEN_JOBS": "1000",
        "GFE_SUBMITS_PER_MINUTE": "1000000",
        "GFE_DEFAULT_MODEL": MODEL,
        "GFE_WELCOME_CREDITS": "10000000.00",
    }
    done = subprocess.run(
        [sys.executable, "-m", "serve_app.cli", "up", "--detach", "--json", "--port-base", str(port_base)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    status: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return status


def stop_installation(home: Path) -> None:
    """End it, and delete what it kept."""
    subprocess.run([sys.executable, "-m", "serve_app.cli", "down", "--purge"], env={**os.environ, "GFE_HOME": str(home)}, check=False)


@contextmanager
def running_installation(port_base: int) -> Iterator[tuple[dict[str, Any], set[int]]]:
    """Run one in a throw-away home on a scripted runtime; tells its status, and the runtime's process."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that it is ended by a time limit too
    stub, stub_url = start_stub()
    with tempfile.TemporaryDirectory(prefix="gfe-bench-") as folder:
        home = Path(folder) / "home"
        status = start_installation(home, stub_url, port_base)
        try:
            yield status, {stub.pid}
        finally:
            stop_installation(home)
            stub.terminate()


def start_stub() -> tuple[subprocess.Popen[str], str]:
    """Start the scripted runtime; tell its address."""
    stub = subprocess.Popen([sys.executable, "-m", "tests.scripted_runtime", "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert stub.stdout is not None
    said = json.loads(stub.stdout.readline())
    return stub, f"http://127.0.0.1:{said['port']}"

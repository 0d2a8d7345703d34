"""What a request costs on its way through the platform, beside the bare path of the same run.

Starts a whole installation in a throw-away home with a scripted runtime as the model (so that the model's own work is not measured),
deploys the bare path into the same Ray cluster, and sends the same requests to both, alternating A-B-A-B.

    .venv/bin/python -m bench.gateway [--json] [--seconds 8] [--rounds 2] [--nodes 4] [--streams 200]

With `--nodes 4` three more nodes join on loopback (`bench/joined.py`), and in place of the bare path the same load goes to one node and to
all four, alternating; with `--streams` so many streams of ten words per second run at once through one replica.

Figures: CPU-ms per request (all processes on the path, PostgreSQL included), split by process, at 1 and 16 in flight, for a plain
answer and for a stream of 16 chunks; the ratio to the bare path; the time to first token at 1 in flight.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench import streams
from bench.joined import JoinedNodes
from bench.machine import cpu_ms, descendants, machine, processes_like

MODEL = "fake:words=16"
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
}
OURS = ("haproxy", "replica", "worker", "dispatcher", "ledger", "postgres", "stub")
BARE = ("haproxy", "bare replica", "bare worker", "stub")


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


async def one_request(session: aiohttp.ClientSession, url: str, headers: dict[str, str], *, stream: bool) -> float:
    """Send one request, read its answer to the end; tell the time to the first byte of content, in ms."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Say sixteen words."}], "stream": stream, "max_tokens": 64}
    started = time.perf_counter()
    async with session.post(url, json=body, headers=headers) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{url} answered {answer.status}: {(await answer.text())[:200]}")
        first = 0.0
        async for _ in answer.content.iter_any():
            first = first or (time.perf_counter() - started) * 1000
        return first


async def load(send: Callable[[], Awaitable[float]], *, in_flight: int, seconds: float) -> tuple[int, list[float]]:
    """Keep `in_flight` requests running for `seconds`."""
    until = time.monotonic() + seconds
    firsts: list[float] = []

    async def one_client() -> None:
        while time.monotonic() < until:
            firsts.append(await send())

    await asyncio.gather(*(one_client() for _ in range(in_flight)))
    return len(firsts), firsts


class Bench:
    """One installation under measurement."""

    def __init__(self, status: dict[str, Any], roots: set[int]) -> None:
        self.roots = {status["supervisor_pid"]} | roots
        self.key = status["api_key"]
        self.urls = {"ours": status["api_url"] + "/v1/chat/completions", "bare": status["api_url"] + "/bare/chat"}

    def pids(self) -> dict[str, list[int]]:
        """Find the processes of each role."""
        return processes_like(ROLES, descendants(self.roots))

    async def measure(self, path: str, *, stream: bool, in_flight: int, seconds: float) -> Sample:
        """Load one path and measure."""
        headers = {"Authorization": f"Bearer {self.key}"}
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def send() -> float:
                return await one_request(session, self.urls[path], headers, stream=stream)

            await load(send, in_flight=in_flight, seconds=0.5)
            pids = self.pids()
            before = {role: sum(map(cpu_ms, found)) for role, found in pids.items()}
            started = time.monotonic()
            count, firsts = await load(send, in_flight=in_flight, seconds=seconds)
            elapsed = time.monotonic() - started
            cpu = {role: sum(map(cpu_ms, found)) - before[role] for role, found in pids.items()}
        return Sample(requests=count, seconds=elapsed, cpu=cpu, first_ms=firsts)


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


def start_stub() -> tuple[subprocess.Popen[str], str]:
    """Start the scripted runtime; tell its address."""
    stub = subprocess.Popen([sys.executable, "-m", "tests.scripted_runtime", "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert stub.stdout is not None
    said = json.loads(stub.stdout.readline())
    return stub, f"http://127.0.0.1:{said['port']}"


async def compare(bench: Bench, *, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Measure both paths in each shape, alternating."""
    rows = []
    for stream in (False, True):
        for in_flight in (1, 16):
            ours, bare = Sample(), Sample()
            for _ in range(rounds):
                ours.add(await bench.measure("ours", stream=stream, in_flight=in_flight, seconds=seconds))
                bare.add(await bench.measure("bare", stream=stream, in_flight=in_flight, seconds=seconds))
            rows.append(row_of(ours, bare, stream=stream, in_flight=in_flight))
            print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


async def compare_nodes(bench: Bench, joined: JoinedNodes, *, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Measure the same load on one node and on all, alternating."""
    rows = []
    for stream in (False, True):
        one, many, ratios = Sample(), Sample(), []
        for number in range(rounds):
            pair = {}
            for are_open in (number % 2 == 0, number % 2 == 1):  # now the many first, now the one
                joined.offer(are_open=are_open)
                pair[are_open] = await bench.measure("ours", stream=stream, in_flight=16, seconds=seconds)
            one.add(pair[False])
            many.add(pair[True])
            ratios.append(round(pair[True].per_request(OURS) / pair[False].per_request(OURS), 3))
        few, all_ = one.per_request(OURS), many.per_request(OURS)
        rows.append({
            "shape": "stream of 16 chunks" if stream else "plain", "nodes": 1 + len(joined.ids), "one_cpu_ms": round(few, 2), "many_cpu_ms": round(all_, 2),
            "ratio": round(all_ / few, 3), "median_ratio": round(statistics.median(ratios), 3),
            "ratios": sorted(ratios), "one_per_s": round(one.requests / one.seconds), "many_per_s": round(many.requests / many.seconds),
            "one_split": {role: round(one.cpu[role] / one.requests, 3) for role in OURS if one.cpu.get(role)},
            "many_split": {role: round(many.cpu[role] / many.requests, 3) for role in OURS if many.cpu.get(role)},
        })  # fmt: skip
        print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


def row_of(ours: Sample, bare: Sample, *, stream: bool, in_flight: int) -> dict[str, Any]:
    """Put a pair of samples into figures."""
    mine, theirs = ours.per_request(OURS), bare.per_request(BARE)
    return {
        "shape": "stream of 16 chunks" if stream else "plain",
        "in_flight": in_flight,
        "ours_cpu_ms": round(mine, 2),
        "bare_cpu_ms": round(theirs, 2),
        "ratio": round(mine / theirs, 2) if theirs else None,
        "ours_per_s": round(ours.requests / ours.seconds),
        "bare_per_s": round(bare.requests / bare.seconds),
        "first_ms_p50": [round(statistics.median(sample.first_ms), 1) for sample in (ours, bare)],
        "split": {role: round(ours.cpu[role] / ours.requests, 3) for role in OURS if ours.cpu.get(role)},
        "bare_split": {role: round(bare.cpu[role] / bare.requests, 3) for role in BARE if bare.cpu.get(role)},
    }


async def deploy_bare_path(status: dict[str, Any], stub_url: str) -> int:
    """Connect to the installation's Ray and deploy the bare path; tell its worker's process id."""
    serve_pid = next(part["pid"] for part in status["parts"] if part["name"] == "serve")
    entries = (entry.partition("=") for entry in Path(f"/proc/{serve_pid}/environ").read_text().split("\0"))
    os.environ.update({name: value for name, _, value in entries if name.startswith("RAY_") or name in {"GFE_HAPROXY", "GFE_RAY_ADDRESS"}})
    import ray
    from ray import cloudpickle

    import bench.bare_path
    from cluster.connect import connect

    cloudpickle.register_pickle_by_value(bench.bare_path)  # the cluster's processes do not have this folder on their path

    connect(os.environ["GFE_RAY_ADDRESS"])
    pid = await bench.bare_path.start_bare_path(stub_url)
    ray.shutdown()
    return pid


async def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--port-base", type=int, default=23000)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--streams", type=int, default=0)
    arguments = parser.parse_args()
    stub, stub_url = start_stub()
    with tempfile.TemporaryDirectory(prefix="gfe-bench-") as folder:
        home = Path(folder) / "home"
        status = start_installation(home, stub_url, arguments.port_base)
        joined: JoinedNodes | None = None
        try:
            joined = JoinedNodes(home, status, stub_url, SLOTS)
            joined.start(arguments.nodes - 1)
            bench = Bench(status, {stub.pid} | joined.pids)
            dripping = await streams.measure(bench.urls["ours"], bench.key, bench.pids, arguments.streams) if arguments.streams else None
            if arguments.nodes > 1:
                rows = await compare_nodes(bench, joined, seconds=arguments.seconds, rounds=arguments.rounds)
            else:
                bench.roots.add(await deploy_bare_path(status, stub_url))
                rows = await compare(bench, seconds=arguments.seconds, rounds=arguments.rounds)
        finally:
            if joined:
                joined.stop()
            subprocess.run(
                [sys.executable, "-m", "serve_app.cli", "down", "--purge"], env={**os.environ, "GFE_HOME": str(home)}, check=False
            )
            stub.terminate()
    report(rows, dripping, as_json=arguments.json)


def report(rows: list[dict[str, Any]], dripping: dict[str, Any] | None, *, as_json: bool) -> None:
    """Print the figures."""
    if as_json:
        print(json.dumps({"machine": machine(), "rows": rows, "streams": dripping}))
        return
    print(machine())
    if dripping:
        print(f"{dripping['streams']} streams at {streams.WORDS_PER_S} words/s: {dripping}")
    for row in rows:
        if "nodes" in row:
            print(
                f"{row['shape']:>20}: {row['one_cpu_ms']:.2f} CPU-ms on one node, {row['many_cpu_ms']:.2f} on {row['nodes']}, ratio {row['ratio']}, "
                f"median of rounds {row['median_ratio']}"
            )
            print(f"{'':>22}one: {row['one_split']}\n{'':>22}all: {row['many_split']}")
            continue
        print(
            f"{row['shape']:>20}, {row['in_flight']:>2} in flight: {row['ours_cpu_ms']:.2f} CPU-ms, bare {row['bare_cpu_ms']:.2f}, "
            f"ratio {row['ratio']}; {row['ours_per_s']}/s against {row['bare_per_s']}/s; first byte p50 {row['first_ms_p50']} ms"
        )
        print(f"{'':>22}{row['split']}")


if __name__ == "__main__":
    asyncio.run(main())

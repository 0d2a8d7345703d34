"""What a request costs on its way through the platform, beside the bare path of the same run.

Starts a whole installation in a throw-away home with a scripted runtime as the model (so that the model's own work is not measured),
deploys the bare path into the same Ray cluster, and sends the same requests to both, alternating A-B-B-A.

    .venv/bin/python -m bench.gateway [--json] [--seconds 8] [--rounds 2] [--dialects] [--litellm] [--nodes 4] [--streams 200]

With `--dialects` each other dialect's route is loaded beside OpenAI's chat (`bench/dialects.py`), with `--litellm` LiteLLM's proxy beside our
gateway (`bench/litellm_proxy.py`), both in the same run. With `--nodes 4` three more nodes join on loopback (`bench/joined.py`), and in place
of the bare path the same load goes to one node and to all four, alternating; with `--streams` so many streams of ten words per second run at
once through one replica.

Figures: CPU-ms per request (all processes on the path, PostgreSQL included), split by process, at 1 and 16 in flight, for a plain
answer and for a stream of 16 chunks; the ratio to the bare path; the time to first token at 1 in flight.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import dialects, litellm_proxy, streams
from bench.installation import OURS, SLOTS, Bench, Pair, Sample, Target, shape_name, start_installation, start_stub, stop_installation
from bench.joined import JoinedNodes
from bench.machine import machine

BARE = ("haproxy", "bare replica", "bare worker", "stub")


async def compare(bench: Bench, *, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Measure our path and the bare one in each shape, alternating."""
    bare = Target(bench.api_url + "/bare/chat", BARE)
    rows = []
    for stream in (False, True):
        for in_flight in (1, 16):
            pair = await bench.alternate(bench.ours, bare, stream=stream, in_flight=in_flight, seconds=seconds, rounds=rounds)
            rows.append(row_of(pair, stream=stream, in_flight=in_flight))
            print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


def row_of(pair: Pair, *, stream: bool, in_flight: int) -> dict[str, Any]:
    """Put a pair of samples into figures."""
    ours, bare = pair.one, pair.other
    mine, theirs = ours.per_request(OURS), bare.per_request(BARE)
    return {
        "shape": shape_name(stream=stream),
        "in_flight": in_flight,
        "ours_cpu_ms": round(mine, 2),
        "bare_cpu_ms": round(theirs, 2),
        "ratio": round(mine / theirs, 2),
        "median_ratio": round(statistics.median(pair.ratios), 2),
        "ratios": sorted(pair.ratios),
        "ours_per_s": ours.per_s(),
        "bare_per_s": bare.per_s(),
        "first_ms_p50": [ours.first_p50(), bare.first_p50()],
        "split": ours.split(OURS),
        "bare_split": bare.split(BARE),
    }


async def compare_nodes(bench: Bench, joined: JoinedNodes, *, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Measure the same load on one node and on all, alternating."""
    rows = []
    for stream in (False, True):
        one, many, ratios = Sample(), Sample(), []
        for number in range(rounds):
            pair = {}
            for are_open in (number % 2 == 0, number % 2 == 1):  # now the many first, now the one
                joined.offer(are_open=are_open)
                pair[are_open] = await bench.measure(bench.ours, stream=stream, in_flight=16, seconds=seconds)
            one.add(pair[False])
            many.add(pair[True])
            ratios.append(round(pair[True].per_request(OURS) / pair[False].per_request(OURS), 3))
        few, all_ = one.per_request(OURS), many.per_request(OURS)
        rows.append({
            "shape": shape_name(stream=stream), "nodes": 1 + len(joined.ids), "one_cpu_ms": round(few, 2), "many_cpu_ms": round(all_, 2),
            "ratio": round(all_ / few, 3), "median_ratio": round(statistics.median(ratios), 3),
            "ratios": sorted(ratios), "one_per_s": one.per_s(), "many_per_s": many.per_s(),
            "one_split": one.split(OURS), "many_split": many.split(OURS),
        })  # fmt: skip
        print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


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


async def measured(asked: argparse.Namespace) -> dict[str, Any]:
    """Start an installation, measure what is asked, end it; tell the rows of each comparison."""
    how = {"seconds": asked.seconds, "rounds": asked.rounds}
    found: dict[str, Any] = {}
    if asked.litellm:
        litellm_proxy.program()  # making it takes a minute, and both cores
    stub, stub_url = start_stub()
    with tempfile.TemporaryDirectory(prefix="gfe-bench-") as folder:
        home = Path(folder) / "home"
        status = start_installation(home, stub_url, asked.port_base)
        joined: JoinedNodes | None = None
        try:
            joined = JoinedNodes(home, status, stub_url, SLOTS)
            joined.start(asked.nodes - 1)
            bench = Bench(status, {stub.pid} | joined.pids)
            if asked.streams:
                found["streams"] = await streams.measure(bench.ours.url, bench.key, bench.pids, asked.streams)
            if asked.nodes > 1:
                found["rows"] = await compare_nodes(bench, joined, **how)
            else:
                bench.roots.add(await deploy_bare_path(status, stub_url))
                found["rows"] = await compare(bench, **how)
            if asked.dialects:
                found["dialects"] = await dialects.compare(bench, **how)
            if asked.litellm:
                with litellm_proxy.running(Path(folder), stub_url) as (proxy, pid):
                    bench.roots.add(pid)
                    found["litellm"] = await litellm_proxy.compare(bench, proxy, **how)
        finally:
            if joined:
                joined.stop()
            stop_installation(home)
            stub.terminate()
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--port-base", type=int, default=23000)
    parser.add_argument("--dialects", action="store_true", help="compare each dialect with OpenAI's chat")
    parser.add_argument("--litellm", action="store_true", help="compare with LiteLLM's proxy")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--streams", type=int, default=0)
    asked = parser.parse_args()
    report(asyncio.run(measured(asked)), as_json=asked.json)


def report(found: dict[str, Any], *, as_json: bool) -> None:
    """Print the figures."""
    if as_json:
        print(json.dumps({"machine": machine(), **found}))
        return
    print(machine())
    if dripping := found.get("streams"):
        print(f"{dripping['streams']} streams at {streams.WORDS_PER_S} words/s: {dripping}")
    for row in found["rows"]:
        print(said_of_nodes(row) if "nodes" in row else said(row))
    for row in found.get("dialects", ()):
        print(dialects.said(row))
    for row in found.get("litellm", ()):
        print(litellm_proxy.said(row))


def said(row: dict[str, Any]) -> str:
    """Write a row beside the bare path as text."""
    return (
        f"{row['shape']:>20}, {row['in_flight']:>2} in flight: {row['ours_cpu_ms']:.2f} CPU-ms, bare {row['bare_cpu_ms']:.2f}, "
        f"ratio {row['ratio']}, median of rounds {row['median_ratio']}; {row['ours_per_s']}/s against {row['bare_per_s']}/s; "
        f"first byte p50 {row['first_ms_p50']} ms\n{'':>22}{row['split']}"
    )


def said_of_nodes(row: dict[str, Any]) -> str:
    """Write a row of one node beside many as text."""
    return (
        f"{row['shape']:>20}: {row['one_cpu_ms']:.2f} CPU-ms on one node, {row['many_cpu_ms']:.2f} on {row['nodes']}, ratio {row['ratio']}, "
        f"median of rounds {row['median_ratio']}\n{'':>22}one: {row['one_split']}\n{'':>22}all: {row['many_split']}"
    )


if __name__ == "__main__":
    main()

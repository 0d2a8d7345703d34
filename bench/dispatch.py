"""What a decision of placement costs as the cluster grows, how fair the queue is, and how honest the waits that it tells.

python -m bench.dispatch [--json] [--quick]      --quick leaves out the real waits, which take a minute
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from bench import waits
from bench.machine import machine
from cluster.dispatcher import Dispatcher
from cluster.nodes import Node, NodeIndex, NodeKind, OfferedModel, Snapshot
from cluster.placement import PlacementRequest, choose, explain
from cluster.queue import FairQueue, Refused, Wait

MODELS = 20
DECISIONS = 20_000
COUNTS = (10, 100, 1000)
SLOTS, JOB_S = 8, 4.0
WAITING = 2000
EVENTS = 2000


def cluster_of(count: int, rng: random.Random, busy: float, *, is_every_one_different: bool = False) -> Snapshot:
    """So many nodes with all models, a tenth of them loaded, each with four slots of which a share is busy."""
    nodes = {}
    for number in range(count):
        models = tuple(
            OfferedModel(
                name=f"m{n}", digest=f"d{n}", size_bytes=1, context_tokens=8192 + number * is_every_one_different, is_loaded=rng.random() < 0.1,
                tokens_per_s=rng.choice([None, 12.0, 30.0, 90.0]), first_token_s=0.3,
            )
            for n in range(MODELS)
        )  # fmt: skip
        running = sum(rng.random() < busy for _ in range(4))
        nodes[f"node_{number}"] = Node(
            id=f"node_{number}", name="n", kind=NodeKind.TRUSTED, url="", slots=4, running=running, models=models
        )
    return Snapshot(1, nodes, {}, NodeIndex(nodes.values()))


def microseconds(work: Any, rounds: int) -> float:
    """CPU time per call of `work(number)`, in microseconds."""
    began = time.process_time()
    for number in range(rounds):
        work(number)
    return (time.process_time() - began) * 1e6 / rounds


def costs_of_decision(count: int) -> dict[str, float]:
    """CPU microseconds per decision, in the cases that could be dear."""
    rng = random.Random(count)
    half, full = cluster_of(count, rng, 0.5), cluster_of(count, rng, 1.0)
    different = cluster_of(count, rng, 0.5, is_every_one_different=True)
    ids = list(half.nodes)
    cases: dict[str, tuple[Snapshot, dict[str, Any]]] = {
        "half busy": (half, {}),
        "all busy": (full, {}),
        "filters": (half, {
            "closed": frozenset(ids[::2]), "excluded": frozenset(ids[:2]), "broken": frozenset(ids[2:4]), "capabilities": frozenset({"completion"}),
            "price_cap": 10**6, "is_trusted_only": True, "zone": "here", "failures": dict.fromkeys(ids[4:9], 2),
        }),
        "one provider": (half, {"provider": frozenset(ids[-1:])}),
        "closed by all": (half, {"closed": frozenset(ids)}),
        "refused by all": (half, {"digest": "another"}),
        "no two alike": (different, {}),
    }  # fmt: skip
    found = {}
    for name, (snapshot, asked) in cases.items():
        requests = [PlacementRequest(model=f"m{n % MODELS}", tokens=500, **asked) for n in range(256)]
        found[name] = microseconds(
            lambda n, requests=requests, snapshot=snapshot: choose(requests[n % 256], snapshot, rng), DECISIONS // 10
        )
    request = PlacementRequest(model="m1", tokens=500)
    found["reasons of 20"] = microseconds(lambda _: explain(request, half, ids[0], limit=20), DECISIONS // 10)
    return found


def costs_of_change(count: int) -> dict[str, float]:
    """CPU microseconds to take one changed node into the index: its counts, and all that it offers."""
    rng = random.Random(count)
    nodes = list(cluster_of(count, rng, 0.5).nodes.values())
    fuller = [replace(node, running=4 if node.has_room else 0) for node in nodes]
    others = list(cluster_of(count, rng, 0.5).nodes.values())
    index = NodeIndex(nodes)
    return {
        "counts": microseconds(lambda n: index.put(fuller[n]), count),
        "offers": microseconds(lambda n: index.put(others[n]), count),
    }


async def costs_of_news(count: int) -> dict[str, float]:
    """CPU microseconds of the Dispatcher per news of a full cluster's node while 2,000 jobs wait: more of the same, and a slot that came free."""
    dispatcher = Dispatcher(_nobody, _nowhere, _nothing, rng=random.Random(count))
    nodes = list(cluster_of(count, random.Random(count), 1.0).nodes.values())
    hear = dispatcher._set
    for node in nodes:
        hear(node)
    jobs = [waiting(f"job-{n}", f"consumer-{n % 50}", f"m{n % MODELS}") for n in range(WAITING)]
    told = asyncio.ensure_future(dispatcher.exchange("replica", jobs, [], []))
    await asyncio.sleep(0)
    same = microseconds(lambda n: hear(replace(nodes[n % count], running=4 + n // count % 2)), EVENTS)
    free = microseconds(lambda n: hear(replace(nodes[n % count], running=3, admitted=n)), min(EVENTS, WAITING // 2))
    grants = await told
    return {"full": same, "a slot free": free, "granted": len(grants)}


async def _nobody() -> list[Any]:
    return []


async def _nowhere(member: Any) -> str:
    return ""


async def _nothing(url: str) -> AsyncGenerator[Node | None, None]:
    yield None


def run_queue(arrivals: list[tuple[float, Wait]], slots: int, job_s: float) -> tuple[dict[str, float], dict[str, float], list[float]]:
    """Play a queue in simulated time; answer when each job began, what wait it was told, and what refusals said."""
    queue, began, told, refusals = FairQueue(), {}, {}, []
    free_at = [0.0] * slots
    events = sorted(arrivals, key=lambda one: one[0])
    now = 0.0
    while events or queue.waiting():
        if events and (not queue.waiting() or events[0][0] <= min(free_at)):
            at, wait = events.pop(0)
            now = max(now, at)
            told[wait.job] = queue.estimated_wait_s(wait.model, slots, now, job_s=job_s)
            if isinstance(refused := queue.add(wait, slots, now, job_s=job_s), Refused):
                refusals.append(refused.retry_after_s)
        elif min(free_at) > now:
            now = min(free_at)
        while (line := queue.in_order("m")) and min(free_at) <= now:
            queue.take(line[0].job, now)
            began[line[0].job] = now
            free_at[free_at.index(min(free_at))] = now + job_s
        if not events and queue.waiting():
            now = max(now, min(free_at))
    return began, told, [float(one) for one in refusals]


def waiting(job: str, consumer: str, model: str = "m") -> Wait:
    """An asynchronous job of 100 tokens."""
    return Wait(job=job, consumer=consumer, request=PlacementRequest(model=model, tokens=100), is_async=True)


def fairness() -> float:
    """By how many job lengths one consumer's single job is delayed by another's 500, all slots being busy when it comes."""
    crowd = [(0.0, waiting(f"crowd-{number}", "crowd")) for number in range(500)]
    began, _, _ = run_queue([*crowd, (10.0, waiting("single", "single"))], SLOTS, JOB_S)
    return (began["single"] - 10.0) / JOB_S


def honesty() -> dict[str, float]:
    """Ratio of the wait that was told to the wait that was, over jobs that waited, once the queue has seen some go."""
    rng = random.Random(3)
    arrivals, at = [], 0.0
    for number in range(400):
        at += rng.expovariate(SLOTS / JOB_S * 1.05)
        arrivals.append((at, waiting(f"job-{number}", f"consumer-{number % 7}")))
    began, told, _ = run_queue(arrivals, SLOTS, JOB_S)
    ratios = sorted(
        told[wait.job] / (began[wait.job] - at) for at, wait in arrivals[50:] if wait.job in began and began[wait.job] - at > JOB_S / 2
    )
    within = sum(0.5 <= ratio <= 2 for ratio in ratios) / len(ratios)
    return {"jobs": len(ratios), "median": ratios[len(ratios) // 2], "within_factor_two": within}


def measure(*, is_quick: bool) -> dict[str, Any]:
    """All of it."""
    return {
        "machine": machine(),
        "decision_us": {str(count): costs_of_decision(count) for count in COUNTS},
        "change_us": {str(count): costs_of_change(count) for count in COUNTS},
        "news_us": {str(count): asyncio.run(costs_of_news(count)) for count in COUNTS},
        "played": {"delay_by_500_in_jobs": fairness(), "told_waits": honesty()},
        "real": None if is_quick else asyncio.run(waits.measure()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    found = measure(is_quick=asked.quick)
    if asked.json:
        print(json.dumps(found))
        return
    print(found["machine"])
    for title, figures in (
        ("decision", found["decision_us"]),
        ("change of a node", found["change_us"]),
        ("news at the Dispatcher", found["news_us"]),
    ):
        print(f"{title}, µs of CPU at {', '.join(figures)} nodes")
        for name in figures[str(COUNTS[0])]:
            print(f"  {name:<16}" + "".join(f"{figures[str(count)][name]:>10.1f}" for count in COUNTS))
    print(f"one job beside 500 of another consumer waits {found['played']['delay_by_500_in_jobs']:.2f} job lengths (played)")
    print(f"told waits over real ones: {honest(found['played']['told_waits'])} (played)")
    if found["real"]:
        crowd, overload = found["real"]["crowd"], found["real"]["overload"]
        delay = crowd["single_delay_in_jobs"]
        print(f"single jobs beside 500 of another consumer wait {delay['mean']:.2f} job lengths, {delay['most']:.2f} at most (real)")
        print(f"told waits over real ones: {honest(crowd['told_waits'])} (real)")
        print(
            f"Retry-After over the real wait: {honest(overload['retry_after'])}; {overload['taken']} taken, {overload['refused']} refused (real)"
        )


def honest(told: dict[str, float]) -> str:
    """Put the figures into words."""
    return f"median {told['median']:.2f}, within a factor of two {told['within_factor_two']:.0%} of {told['jobs']} jobs"


if __name__ == "__main__":
    main()

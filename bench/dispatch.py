"""What a decision of placement costs as the cluster grows, how fair the queue is, and how honest the waits that it tells.

python -m bench.dispatch [--json]
"""

import argparse
import json
import random
import time
from typing import Any

from bench.machine import machine
from cluster.nodes import Node, NodeIndex, NodeKind, OfferedModel, Snapshot
from cluster.placement import PlacementRequest, choose
from cluster.queue import FairQueue, Refused, Wait

MODELS = 20
DECISIONS = 20_000
SLOTS, JOB_S = 8, 4.0


def cluster_of(count: int, rng: random.Random, busy: float) -> Snapshot:
    """So many nodes with all models, a tenth of them loaded, each with four slots of which a share is busy."""
    nodes = {}
    for number in range(count):
        models = tuple(
            OfferedModel(name=f"m{n}", digest=f"d{n}", size_bytes=1, context_tokens=8192, is_loaded=rng.random() < 0.1)
            for n in range(MODELS)
        )
        running = sum(rng.random() < busy for _ in range(4))
        nodes[f"node_{number}"] = Node(
            id=f"node_{number}", name="n", kind=NodeKind.TRUSTED, url="", slots=4, running=running, models=models
        )
    return Snapshot(1, nodes, {}, NodeIndex(nodes.values()))


def cost_of_decision(count: int, busy: float) -> float:
    """Microseconds of CPU per decision."""
    rng = random.Random(count)
    snapshot = cluster_of(count, rng, busy)
    requests = [PlacementRequest(model=f"m{rng.randrange(MODELS)}", tokens=500) for _ in range(256)]
    rounds = DECISIONS if busy < 1 else max(50, DECISIONS // count)
    began = time.process_time()
    for number in range(rounds):
        choose(requests[number % 256], snapshot, rng)
    return (time.process_time() - began) * 1e6 / rounds


def cost_of_change(count: int) -> float:
    """Microseconds of CPU to take one changed node into the index."""
    rng = random.Random(count)
    nodes = list(cluster_of(count, rng, 0.5).nodes.values())
    others = list(cluster_of(count, rng, 0.5).nodes.values())
    index = NodeIndex(nodes)
    began = time.process_time()
    for node in others:
        index.put(node)
    return (time.process_time() - began) * 1e6 / count


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
            told[wait.job] = queue.estimated_wait_s(wait.model, slots, now)
            if isinstance(refused := queue.add(wait, slots, now), Refused):
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


def waiting(job: str, consumer: str) -> Wait:
    """An asynchronous job of 100 tokens."""
    return Wait(job=job, consumer=consumer, request=PlacementRequest(model="m", tokens=100), is_async=True)


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


def measure() -> dict[str, Any]:
    """All of it."""
    return {
        "machine": machine(),
        "decision_us": {
            str(count): {"half busy": cost_of_decision(count, 0.5), "all busy": cost_of_decision(count, 1.0)} for count in (10, 100, 1000)
        },
        "change_us": {str(count): cost_of_change(count) for count in (10, 100, 1000)},
        "delay_by_500_in_jobs": fairness(),
        "told_waits": honesty(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = measure()
    if asked.json:
        print(json.dumps(found))
        return
    print("nodes  decision, half busy  decision, all busy  change of one node")
    for count, figures in found["decision_us"].items():
        print(f"{count:>5}  {figures['half busy']:>16.1f} µs  {figures['all busy']:>15.1f} µs  {found['change_us'][count]:>15.1f} µs")
    print(f"one job beside 500 of another consumer waits {found['delay_by_500_in_jobs']:.2f} job lengths")
    told = found["told_waits"]
    print(
        f"told wait / real wait: median {told['median']:.2f}, within a factor of two {told['within_factor_two']:.0%} of {told['jobs']} jobs"
    )


if __name__ == "__main__":
    main()

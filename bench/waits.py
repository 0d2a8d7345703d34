"""Real waits in process: the real Dispatcher and the real view of a replica over nodes whose jobs only take their time.

One consumer with 500 jobs, others who come with one; then more than the nodes can take. How long did each wait, and what was it told?
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from cluster.dispatcher import Dispatcher
from cluster.errors import NoCapacity
from cluster.nodes import Node, NodeKind, OfferedModel
from cluster.placement import PlacementRequest
from cluster.queue import Wait
from cluster.speed import Ran, Speeds
from cluster.view import ClusterView

NODES, SLOTS_EACH, JOB_S = 4, 2, 1.0
SLOTS = NODES * SLOTS_EACH
CROWD, SINGLES, SINGLES_EVERY_S = 500, 12, 1.3
OVERLOAD, OVERLOAD_S = 1.5, 25.0
TICK_S = 1.0
LONGEST_WAIT_S = 600.0
MODEL = OfferedModel(name="m", digest="d", size_bytes=1, context_tokens=8192, is_loaded=True)


@dataclass(frozen=True)
class Member:
    """A node, as the Dispatcher finds it."""

    id: str


class TimedNode:
    """A node whose jobs take between half and one and a half of `JOB_S`; it learns their length as a worker does."""

    def __init__(self, id_: str, rng: Random) -> None:
        self._rng, self._speeds, self._changed = rng, Speeds(), asyncio.Event()
        self.node = Node(id=id_, name=id_, kind=NodeKind.TRUSTED, url="", slots=SLOTS_EACH, running=0, models=(MODEL,))

    def _set(self, **changes: Any) -> None:
        self.node = replace(self.node, **changes)
        self._changed.set()
        self._changed = asyncio.Event()

    def take(self) -> bool:
        """Take a job, if there is a slot."""
        if self.node.free == 0:
            return False
        self._set(running=self.node.running + 1, admitted=self.node.admitted + 1)
        return True

    async def run(self) -> None:
        """Run the job that was taken."""
        job_s = JOB_S * self._rng.uniform(0.5, 1.5)
        await asyncio.sleep(job_s)
        self._speeds.ended(MODEL, Ran(first_token_s=0.1, writing_s=job_s - 0.1, tokens=20, job_s=job_s, was_loaded=True), time.monotonic())
        self._set(running=self.node.running - 1)

    async def watch(self) -> AsyncGenerator[Node | None, None]:
        """Tell what changes; now and then what was learned."""
        while True:
            changed = self._changed
            self.node = replace(self.node, models=self._speeds.told([MODEL], time.monotonic()))
            yield self.node
            try:
                async with asyncio.timeout(TICK_S):
                    await changed.wait()
            except TimeoutError:
                continue


class Handle:
    """The Dispatcher as an actor's handle."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._dispatcher, method)

        class Remote:
            async def remote(self, *arguments: Any) -> Any:
                return await call(*arguments)

        return Remote()


@dataclass
class Journal:
    """What happened: when each job began after it came, what it was told, what refusals said."""

    waited_s: dict[str, float] = field(default_factory=dict)
    told_s: dict[str, float] = field(default_factory=dict)
    grants: list[float] = field(default_factory=list)
    refused: list[tuple[float, int, float]] = field(default_factory=list)  # when, how many waited, the seconds that were told


class World:
    """Nodes, a Dispatcher over them, a replica's view."""

    def __init__(self, seed: int) -> None:
        rng = Random(seed)
        self.nodes = {f"node_{n}": TimedNode(f"node_{n}", rng) for n in range(NODES)}
        self.dispatcher = Dispatcher(self._members, self._locate, self._watch, rng=rng)
        self.view = ClusterView(lambda: Handle(self.dispatcher))
        self.journal = Journal()

    async def _members(self) -> Sequence[Member]:
        return [Member(id_) for id_ in self.nodes]

    async def _locate(self, member: Member) -> str:
        return member.id

    def _watch(self, url: str) -> AsyncGenerator[Node | None, None]:
        return self.nodes[url].watch()

    async def job(self, name: str, consumer: str, *, is_async: bool, is_told: bool = False) -> None:
        """Wait for a slot as a driver does, then run."""
        came = time.monotonic()
        wait = Wait(job=name, consumer=consumer, request=PlacementRequest(model="m", tokens=100), is_async=is_async)
        asking = asyncio.create_task(self._told(name)) if is_told else None
        while True:
            waiting = self.dispatcher.status()["waiting"].get("m", 0)
            try:
                granted = await self.view.wait_for_slot(wait, LONGEST_WAIT_S)
            except NoCapacity as refused:
                self.journal.refused.append((time.monotonic(), waiting, refused.retry_after_s))
                return
            node = self.nodes[granted.id]
            if node.take():
                break
            self.view.put_back(wait)
        began = time.monotonic()
        self.journal.grants.append(began)
        self.journal.waited_s[name] = began - came
        await node.run()
        if asking:
            await asking

    async def _told(self, name: str) -> None:
        """Ask once, as soon as the Dispatcher knows the job."""
        for _ in range(100):
            if standing := await self.view.wait_of(name):
                self.journal.told_s[name] = standing.estimated_s
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def world(seed: int) -> AsyncGenerator[World, None]:
    """Start one, with its nodes known and the length of their jobs learned."""
    made = World(seed)
    made.dispatcher.start()
    made.view.start()
    try:
        while made.dispatcher.status()["nodes"] < NODES:
            await asyncio.sleep(0.02)
        await asyncio.gather(*(made.job(f"first-{n}", f"first-{n}", is_async=True) for n in range(4 * SLOTS)))
        await asyncio.sleep(2 * TICK_S)
        made.journal = Journal()
        yield made
    finally:
        await made.view.aclose()
        await made.dispatcher.aclose()


async def beside_a_crowd(seed: int = 1) -> dict[str, Any]:
    """One consumer has 500 jobs; others come with one each."""
    async with world(seed) as here:
        crowd = [asyncio.create_task(here.job(f"crowd-{n}", "crowd", is_async=True, is_told=True)) for n in range(CROWD)]
        singles = []
        await asyncio.sleep(2 * JOB_S)
        for number in range(SINGLES):
            singles.append(asyncio.create_task(here.job(f"single-{number}", f"single-{number}", is_async=False)))
            await asyncio.sleep(SINGLES_EVERY_S)
        await asyncio.gather(*singles)
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        waited, told = here.journal.waited_s, here.journal.told_s
        delays = [waited[f"single-{number}"] / JOB_S for number in range(SINGLES)]
        ratios = [told[name] / waited[name] for name in told if waited.get(name, 0) > JOB_S / 2]
        return {"single_delay_in_jobs": {"mean": sum(delays) / len(delays), "most": max(delays)}, "told_waits": honesty_of(ratios)}


async def beyond_capacity(seed: int = 2) -> dict[str, Any]:
    """More sync jobs than the nodes can take: what refusals say, against when a slot would have come."""
    async with world(seed) as here:
        rng, jobs, until = Random(seed), [], time.monotonic() + OVERLOAD_S
        while time.monotonic() < until:
            number = len(jobs)
            jobs.append(asyncio.create_task(here.job(f"job-{number}", f"consumer-{number}", is_async=False)))
            await asyncio.sleep(rng.expovariate(OVERLOAD * SLOTS / JOB_S))
        await asyncio.gather(*jobs)
        grants, refused = here.journal.grants, here.journal.refused
        ratios = []
        for at, waiting, told_s in refused:
            later = [grant for grant in grants if grant > at]
            if len(later) > waiting:
                ratios.append(told_s / (later[waiting] - at))
        return {"taken": len(grants), "refused": len(refused), "retry_after": honesty_of(ratios)}


def honesty_of(ratios: Sequence[float]) -> dict[str, float]:
    """Sum up told times over real ones."""
    ordered = sorted(ratios)
    within = sum(0.5 <= ratio <= 2 for ratio in ordered) / len(ordered)
    return {
        "jobs": len(ordered),
        "median": ordered[len(ordered) // 2],
        "least": ordered[0],
        "most": ordered[-1],
        "within_factor_two": within,
    }


async def measure() -> dict[str, Any]:
    """Both scenes."""
    return {"crowd": await beside_a_crowd(), "overload": await beyond_capacity()}


if __name__ == "__main__":
    print(asyncio.run(measure()))

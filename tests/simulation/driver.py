"""Runs a seed, or a list of events; makes a failing list as short as it can."""

import asyncio
import random
import time
from dataclasses import dataclass

from tests.simulation import client
from tests.simulation.checker import Checker
from tests.simulation.events import Event, apply, drawn
from tests.simulation.loop import Standstill, VirtualLoop
from tests.simulation.world import QUIET_LIMIT_S, World, surroundings

STEPS = 200  # of one world
SERVED_WITHIN_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """What came of a run: the first defect, or None; how many steps were taken, and how long the world lived."""

    seed: int
    events: tuple[Event, ...]
    defect: str | None
    steps: int
    virtual_s: float
    jobs: int
    defects: tuple[str, ...] = ()

    @property
    def kind(self):
        """The defect without its figures."""
        return self.defect and self.defect.partition(":")[0]


def run(seed, events=None, *, steps=STEPS, until=None, trace=lambda line: None):
    """Run one world. `until`: stop after so many steps, without the end's demands."""
    events = tuple(drawn(seed, steps) if events is None else events)
    rng = random.Random(seed)
    loop = VirtualLoop(random.Random(rng.random()))
    made = []
    with surroundings(loop, random.Random(rng.random()), trace, lambda: made[0]):
        made.append(World(loop, random.Random(rng.random()), trace, random.Random(rng.random())))
        world = made[0]
        taken = 0

        async def live():
            nonlocal taken
            checker = Checker(world)
            world.watch_worker, world.watch_dispatcher = checker.watch_worker, checker.watch_dispatcher
            await world.begin()
            for event in events[:until]:
                world.note(f"--- {taken}: {event.kind} {apply(world, event)}")
                taken += 1
                await asyncio.sleep(event.then_s)
                checker.after_step()
                if world.defects:
                    return
            if until is None:
                await healed(world)
                await served_again(world)
                checker.at_end()

        try:
            loop.run_until_complete(live())
        except Standstill as stands:
            world.defect(f"standstill: {stands}")
        first = world.defects[0] if world.defects else None
        outcome = Outcome(seed, events, first, taken, loop.time() - 1000, len(world.table.rows), tuple(world.defects))
        world.trace = lambda line: None
        loop.run_until_complete(world.close())
        loop.close()
    return outcome


async def healed(world):
    """Heal everything and let time go on until nothing is left to be done."""
    world.note("--- healed")
    world.heal()
    await settled(world, QUIET_LIMIT_S)


async def settled(world, limit_s):
    """Let time go on until nothing is left to be done."""
    until = world.loop.time() + limit_s
    quiet_for = 0
    while world.loop.time() < until and quiet_for < 3:
        await asyncio.sleep(1)
        quiet_for = quiet_for + 1 if world.is_quiet() else 0


async def served_again(world):
    """Demand that a platform on which nothing is broken any more serves: a stream and a whole answer, within a minute."""
    for is_stream in (True, False):
        until = world.loop.time() + SERVED_WITHIN_S
        while True:
            asked = client.ask_of(len(world.asked), world.keys[0], 5, world.loop.time(), is_stream=is_stream)
            world.submit(asked)
            while asked.is_open:
                await asyncio.sleep(0.1)
                if world.loop.time() > until:
                    break
            if asked.outcome == "done":
                break
            if world.loop.time() > until:
                world.defect(f"nothing is broken and nobody is served: {asked.outcome} {asked.status} {asked.code}")
                return
            await asyncio.sleep(2)
    await settled(world, 30)


def shortest(outcome, limit_s=60.0):
    """Leave out whatever is not needed for the same kind of defect: halves first, then single events (Zeller's delta debugging)."""
    events, until = list(outcome.events[: outcome.steps]), time.perf_counter() + limit_s
    best = outcome
    size = max(1, len(events) // 2)
    while size >= 1:
        at = 0
        while at < len(events) and time.perf_counter() < until:
            tried = run(outcome.seed, events[:at] + events[at + size :])
            if tried.kind == outcome.kind:
                events, best = list(tried.events[: tried.steps]), tried
            else:
                at += size
        size //= 2
    return best

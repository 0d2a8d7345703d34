"""Scenes: worlds of a given shape in which what happens is written down, for defects that were found and for what is promised by name."""

import asyncio
import random

from ledger.client import job_id
from tests.simulation import client
from tests.simulation.checker import Checker
from tests.simulation.driver import healed
from tests.simulation.loop import VirtualLoop
from tests.simulation.world import World, surroundings


class Shape(random.Random):
    """Chance that answers what a scene wants: so many nodes with so many slots each, so many replicas; no tokenizer."""

    def __init__(self, nodes, slots, replicas):
        super().__init__(0)
        self._wholes = [nodes, *[slots] * nodes, replicas]

    def randint(self, a, b):
        return self._wholes.pop(0)

    def random(self):
        return 0.9

    def choice(self, options):
        return options[1]


class Scene:
    """A world, with short words for what scenes do."""

    def __init__(self, world):
        self.world = world

    def ask(self, words=10, *, is_stream=True, key=None, replica=0):
        world = self.world
        asked = client.ask_of(
            len(world.asked), world.keys[0], words, world.loop.time(), is_stream=is_stream, idempotency_key=key, max_tokens=max(100, words)
        )  # fmt: skip
        world.asked.append(asked)
        name = world.replicas[replica].name
        asked.task = world.consumers.spawn(client.run(asked, world.network, name, world.consumers, world.loop))
        return asked

    def read(self, asked, *, replica=0):
        """Read a request's job along, at another replica."""
        asked.job = job_id(self.row(asked).id)
        return self.world.come_back(asked, 0, self.world.replicas[replica].name)

    def leave(self, call):
        client.leave(call, self.world.loop.time())

    async def until(self, condition, limit_s=60.0):
        """Let time go on until something is so."""
        until = self.world.loop.time() + limit_s
        while not condition():
            assert self.world.loop.time() < until, "it does not come"
            await asyncio.sleep(0.01)

    def row(self, asked):
        """What is kept of a request's job."""
        return next((row for row in self.world.table.rows.values() if asked.prompt in (row.request or "")), None)


def play(scene, *, nodes=1, slots=1, replicas=1, seed=1):
    """Play a scene, heal, let time go on, and demand what is always demanded; answer what the scene answers and its world."""
    loop = VirtualLoop(random.Random(seed))
    lines, made = [], []
    with surroundings(loop, random.Random(seed), lines.append, lambda: made[0]):
        made.append(World(loop, random.Random(seed), lines.append, Shape(nodes, slots, replicas)))
        world = made[0]

        async def live():
            checker = Checker(world)
            world.watch_worker, world.watch_dispatcher = checker.watch_worker, checker.watch_dispatcher
            await world.begin()
            said = await scene(Scene(world))
            await healed(world)
            checker.at_end()
            return said

        try:
            said = loop.run_until_complete(live())
            assert world.defects == [], "\n".join(lines[-60:])
        finally:
            world.trace = lambda line: None
            loop.run_until_complete(world.close())
            loop.close()
    return said, world

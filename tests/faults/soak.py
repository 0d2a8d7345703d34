"""Many jobs on four nodes while something breaks every few seconds; `python -m bench.soak` runs it with as many as one likes.

Everything follows from the seed: the jobs, how they are asked for, who leaves or cancels, which fault comes when. Afterwards nothing may be left open, each answer must be right or
honestly none, and what consumers saw must be what the books say.
"""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter

from cluster import processes
from tests.batch_crowd import BatchCrowd
from tests.books import contradictions, rows_of
from tests.crowd import QUICK, Crowd, History, Kind, summary
from tests.faults.platform import LEDGER, platform_on
from tests.ledger.proof.server import throw_away_server

NODES, SLOTS, IN_FLIGHT = 4, 14, 40
STEADY = Kind("fake:drip=0.1", 30, 30)
SHORT = Kind("fake:words=3", 100, 3)
EVERY_S = (1.0, 3.0)
REST_LIMIT_S = 120
WAYS = (("chat", 7), ("job", 2), ("cancel", 1))
BATCHED = 0.1  # of the jobs are lines of batches
HONEST = {"ok", "incomplete", "refused", "left", "canceled"}


class Faults:
    """What may break, each named after its row; all is mended again by the same hand."""

    def __init__(self, platform, server, rng):
        self.platform, self.server, self.rng = platform, server, rng
        self.done = Counter()
        self._busy = set()

    async def one(self):
        """Break something, for a while."""
        rows = {
            "4 node frozen": self.freeze, "5 worker killed": self.kill_worker, "6 runtime killed": self.kill_runtime,
            "7 runtime answers 500": self.answer_500, "9 runtime answers 503": self.answer_503, "12 runtime writes nonsense": self.babble,
            "24 backends killed": self.kill_backends, "25 database killed": self.kill_database, "26 database frozen": self.freeze_database,
        }  # fmt: skip
        row = self.rng.choice(sorted(rows))
        self.done[row] += 1
        await rows[row]()

    @contextlib.contextmanager
    def _struck(self):
        """A node that nothing else has struck, as long as two others are left."""
        free = [node for node in self.platform.nodes if node not in self._busy]
        node = self.rng.choice(free) if len(free) > 2 else None
        if node:
            self._busy.add(node)
        try:
            yield node
        finally:
            self._busy.discard(node)

    async def freeze(self):
        with self._struck() as node:
            if node:
                node.worker.freeze()
                await asyncio.sleep(self.rng.uniform(1, 20))
                node.worker.thaw()

    async def kill_worker(self):
        with self._struck() as node:
            if node:
                node.worker.kill()
                await asyncio.sleep(self.rng.uniform(0, 2))
                node.worker.stop()
                await node.start_worker()

    async def kill_runtime(self):
        with self._struck() as node:
            if node:
                await node.kill_runtime()
                await asyncio.sleep(self.rng.uniform(0, 3))
                await node.start_runtime()

    async def _behave(self, always):
        with self._struck() as node:
            if node:
                node.script.always = always
                await asyncio.sleep(self.rng.uniform(1, 4))
                node.script.always = None

    async def answer_500(self):
        await self._behave("fake:500")

    async def answer_503(self):
        await self._behave("bad:503")

    async def babble(self):
        await self._behave(self.rng.choice(["fake:garbage", "bad:half", "bad:utf8"]))

    async def kill_backends(self):
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'gfe' AND pid <> pg_backend_pid()"
        with contextlib.suppress(Exception):  # another fault may have the whole server at the moment
            await asyncio.to_thread(rows_of, self.server.admin_url, query)

    async def kill_database(self):
        if self.server not in self._busy:
            self._busy.add(self.server)
            self.server.kill()
            await asyncio.to_thread(self.server.start)
            self._busy.discard(self.server)

    async def freeze_database(self):
        if self.server in self._busy:
            return
        self._busy.add(self.server)
        postmaster = self.server._process.pid
        frozen = (processes.process_of(postmaster), *processes.descendants(postmaster))
        for process in frozen:
            processes.send(process, signal.SIGSTOP)
        await asyncio.sleep(self.rng.uniform(0.5, 5))
        for process in frozen:
            processes.send(process, signal.SIGCONT)
        self._busy.discard(self.server)


async def strike_for_ever(faults, rng):
    """Begin a fault every few seconds; those that last overlap. Canceled: wait until all is mended."""
    running = set()
    try:
        while True:
            await asyncio.sleep(rng.uniform(*EVERY_S))
            running.add(asyncio.create_task(faults.one()))
    finally:
        await asyncio.gather(*running)


async def soak(jobs, seed, history, in_flight=IN_FLIGHT):
    """Run it; answers its figures.

    Raises:
        AssertionError: Something was left open, lost, wrong or doubled, or the books do not hold.
    """
    rng = random.Random(seed)
    lines = round(jobs * BATCHED)
    with throw_away_server() as server:
        async with platform_on(server, LEDGER, nodes=NODES, slots=SLOTS, replicas=2) as platform:
            kinds, written = ((STEADY, 5), (QUICK, 3), (SHORT, 2)), History(history)
            crowd = Crowd(platform.urls, platform.key, written, seed=seed, kinds=kinds, in_flight=in_flight, leavers=0.05, ways=WAYS)
            batches = BatchCrowd(platform.urls, platform.key, written, seed=seed)
            faults = Faults(platform, server, rng)
            began = time.monotonic()
            striking = asyncio.create_task(strike_for_ever(faults, rng))
            one_by_one, batched = await asyncio.gather(crowd.run(jobs - lines), batches.run(jobs - lines, lines))
            outcomes = [*one_by_one, *batched]
            took_s = time.monotonic() - began
            striking.cancel()
            await asyncio.gather(striking, return_exceptions=True)
            await platform.require_quiet(REST_LIMIT_S)
            await platform.require_books()
            ways = Counter(outcome.way + (" as a stream" if outcome.streams else "") for outcome in outcomes)
            figures = summary(outcomes) | {"seconds": round(took_s), "seed": seed, "ways": dict(sorted(ways.items()))}
            lost = [one for one in outcomes if one.ended not in HONEST]
            assert lost == []
            # A job whose end could not be recorded in time is given away: the consumer has it, nobody pays (never the other way round).
            found = contradictions(platform.database.admin_url, outcomes)
            doubled = [one for one in found if one[0] != "not paid"]
            assert doubled == []
            reasons = Counter(outcome.detail[:100] for outcome in outcomes if outcome.ended in {"incomplete", "refused"})
            return figures | {
                "faults": dict(sorted(faults.done.items())), "lost": len(lost), "doubled": len(doubled), "audit": "green",
                "given away": len(found), "reasons": dict(reasons.most_common(12)),
            }  # fmt: skip

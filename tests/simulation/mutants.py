"""Small defects, put into the product on purpose: each must be found by the simulation, or the simulation proves nothing.

python -m tests.simulation.mutants
"""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from unittest import mock

import serve_app.adoption
import serve_app.driving
import serve_app.ends
import serve_app.sweeper
from cluster.attempt_log import AttemptLog, Coalescer
from cluster.jobs import End, Text
from cluster.running import Running
from cluster.tickets import Tickets
from cluster.worker import Worker
from serve_app.settlement import Settlement
from serve_app.store.jobs import JobStore, JobWriter
from tests.hunt import hunt
from tests.simulation import test_scenes
from tests.simulation.database import JobTable
from tests.simulation.driver import run

FIRST_SEED, WORLDS = 1000, 30
SCENES = {name: scene for name, scene in vars(test_scenes).items() if name.startswith("test_") and not scene.__code__.co_argcount}


@dataclass(frozen=True)
class Mutant:
    """A defect: what stands at `target.name` is made wrong."""

    target: object
    name: str
    wrong: Callable[[Callable], Callable]


def _never(right):
    return lambda *arguments, **more: None


def _async_never(right):
    async def nothing(*arguments, **more):
        return None

    return nothing


def _refuses_nothing(right):
    def refusal(self, attempt):
        reason = right(self, attempt)
        return None if reason == "busy" else reason

    return refusal


def _released_twice(right):
    def release(self, running):
        right(self, running)
        running.has_slot = True

    return release


def _slot_kept_at_the_end(right):
    def release(self, running):
        if running.cancel_reason is None:
            right(self, running)

    return release


def _finish_without_guard(right):
    def finish(self, *columns_and_driver):
        *columns, driver = columns_and_driver
        for id_ in columns[0]:
            if (row := self.rows.get(id_)) and row.driver != driver and row.state < 2:
                self.change(row, driver=driver)
        return right(self, *columns, driver)

    return finish


def _driven_though_ended(right):
    def driven(self, id_, driver):
        row = self.rows.get(id_)
        return row if row and row.driver == driver else None

    return driven


def _other_figures_the_second_time(right):
    async def owed(self, older_than_s):
        return [replace(one, completion_tokens=one.completion_tokens + 1) for one in await right(self, older_than_s)]

    return owed


def _another_node(right):
    async def owed(self, older_than_s):
        return [replace(one, node="node_a") for one in await right(self, older_than_s)]

    return owed


def _one_token_more(right):
    def note(self, event):
        right(self, event)
        if isinstance(event, Text) and self.delivered_tokens == event.tokens:
            self.delivered_tokens += 1

    return note


def _tries_again_after_text(right):
    def after_failure(context, job, failed):
        job.has_text = False
        job.events.clear()
        return right(context, job, failed)

    return after_failure


def _attaches_to_the_middle(right):
    def since(self, seq):
        return right(self, seq + 1 if seq else seq)

    return since


def _says_it_twice(right):
    def take(self, seq, now):
        for event in right(self, seq, now):
            yield replace(event, content=event.content * 2)

    return take


def _ends_well_without_done(right):
    async def stream(self, running, counted, source=None):
        end = await right(self, running, counted, source)
        if not isinstance(end, End) and end.status == 502:
            from cluster.jobs import EndReason

            return End(seq=0, reason=EndReason.STOP, usage=await self._usage(running, None, None))
        return end

    return stream


def _success_before_the_commit(right):
    async def patiently(context, job, finish):
        context.spawn(right(context, job, finish))
        return True

    return patiently


def _settled_without_answer(right):
    async def settle(self, owed):
        self._writer.settled(owed.id, None)
        if owed.id.int % 2:
            await right(self, owed)

    return settle


def _lost_writes_are_forgotten(right):
    async def write_settled(self, settled):
        with contextlib.suppress(Exception):
            await self._line.query("SELECT 1")

    return write_settled


def _no_lease(right):
    async def renew(self, driver, live):
        return None

    return renew


def _adopts_what_lives(right):
    def adopt(self, own, limit, driver, lease_s, seen_s):
        for row in self.rows.values():
            if row.state < 2 and row.id not in own:
                row.lease_until = 0.0
        return right(self, own, limit, driver, lease_s, seen_s)

    return adopt


def _always_same_end(right):
    async def require(context, job):
        return None

    return require


MUTANTS = {
    "a node takes more than its slots": Mutant(Worker, "_refusal", _refuses_nothing),
    "a slot is released twice": Mutant(Worker, "_release", _released_twice),
    "a canceled attempt keeps its slot": Mutant(Worker, "_release", _slot_kept_at_the_end),
    "a newer attempt does not stop the older one": Mutant(Worker, "_supersede", _never),
    "a node does not look after its attempts": Mutant(Running, "look", _never),
    "text is told twice": Mutant(Coalescer, "take", _says_it_twice),
    "a reader that attaches misses a line": Mutant(AttemptLog, "since", _attaches_to_the_middle),
    "an answer without its end is a success": Mutant(Worker, "_stream", _ends_well_without_done),
    "a ticket is not counted": Mutant(Tickets, "give", _never),
    "a job is tried again after its first word": Mutant(serve_app.driving, "_after_failure", _tries_again_after_text),
    "one token too many is charged": Mutant(serve_app.driving.OpenJob, "note", _one_token_more),
    "a client that leaves is not noticed": Mutant(serve_app.driving, "end_unread", _async_never),
    "success is told before it is recorded": Mutant(serve_app.ends, "_write_patiently", _success_before_the_commit),
    "another's end is taken for one's own": Mutant(serve_app.ends, "_require_same_end", _always_same_end),
    "an end that was not written is forgotten": Mutant(serve_app.ends, "_write_at_last", _async_never),
    "an end is written by whoever comes": Mutant(JobTable, "finish", _finish_without_guard),
    "an end is written over an end": Mutant(JobTable, "_driven", _driven_though_ended),
    "leases are never renewed": Mutant(JobStore, "renew", _no_lease),
    "living drivers' jobs are adopted": Mutant(JobTable, "adopt", _adopts_what_lives),
    "nobody adopts": Mutant(serve_app.adoption, "adopt_once", _async_never),
    "the second settlement has other figures": Mutant(JobStore, "owed", _other_figures_the_second_time),
    "the second settlement pays another node": Mutant(JobStore, "owed", _another_node),
    "what is owed is told once": Mutant(Settlement, "settle_all", _async_never),
    "settled before the ledger says so": Mutant(Settlement, "settle", _settled_without_answer),
    "acknowledgments are lost": Mutant(JobWriter, "_write_settled", _lost_writes_are_forgotten),
    "holds without a job are kept": Mutant(serve_app.sweeper, "sweep_once", _async_never),
}


@contextlib.contextmanager
def planted(mutant):
    """The product with a defect."""
    right = getattr(mutant.target, mutant.name)
    with mock.patch.object(mutant.target, mutant.name, mutant.wrong(right)):
        yield


@cache
def is_sound(seed):
    """Whether the product as it is survives a seed: only then has a mutant been found there."""
    return run(seed).defect is None


def killed_by(mutant, worlds=WORLDS):
    """Hunt a mutant, in the worlds first and then in the scenes; tell what finds it, or None."""
    for seed in range(FIRST_SEED, FIRST_SEED + worlds):
        with planted(mutant):
            outcome = run(seed)
        if outcome.defect and is_sound(seed):
            return f"seed {seed}, step {outcome.steps}: {outcome.defect[:110]}"
    for name, scene in SCENES.items():
        with planted(mutant):
            try:
                scene()
            except AssertionError as found:
                return f"{name}: {str(found).strip().rpartition(chr(10))[2][:110]}"
    return None


def main():
    return hunt({name: MUTANTS[name] for name in sys.argv[1:] or MUTANTS}, killed_by)


if __name__ == "__main__":
    sys.exit(main())

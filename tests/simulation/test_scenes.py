"""Defects that the simulation found, each by its name; `play` demands at the end that every job has ended and rows, books and texts agree."""

import asyncio
from functools import partial

from serve_app.store import jobs
from serve_app.store.records import JobState
from tests.simulation.database import JobTable
from tests.simulation.scenes import play


def test_an_end_that_met_a_dead_database_is_written_when_it_is_back():
    async def scene(at):
        asked = at.ask(30)
        await at.until(lambda: asked.text)
        at.world.database.kill(20)
        await at.until(lambda: not asked.is_open)

    _, world = play(scene)
    (row,) = world.table.rows.values()
    assert (row.state, row.owed, len(world.ledger.effects)) == (JobState.SUCCEEDED, None, 1)


def test_a_record_that_took_effect_after_its_driver_gave_up_is_ended_all_the_same():
    async def scene(at):
        at.world.database.freeze(6)
        asked = at.ask(3)
        await at.until(lambda: not asked.is_open)
        return asked

    asked, world = play(scene)
    assert (asked.status, [how for how, _, _ in world.ledger.effects]) == (503, ["void_retryable"])


def test_a_job_that_waited_for_its_node_is_paid_for_though_the_ledger_was_away():
    async def scene(at):
        first = at.ask(20)
        await at.until(lambda: first.text)
        second = at.ask(5)
        await at.until(lambda: second.text)
        at.world.books.kill(10)
        await at.until(lambda: not second.is_open)
        return second

    second, world = play(scene)
    assert second.outcome == "done"
    assert [how for how, _, _ in world.ledger.effects] == ["capture", "capture"]


def test_a_driver_that_stood_still_does_not_tell_success_of_a_job_that_another_one_ended():
    async def scene(at):
        asked = at.ask(40)
        await at.until(lambda: len(asked.text) > 20)
        at.world.replicas[0].freeze(60)
        await at.until(lambda: not asked.is_open, 120)
        return asked

    asked, world = play(scene, replicas=2)
    (row,) = world.table.rows.values()
    assert asked.outcome == "done" if row.state == JobState.SUCCEEDED else asked.outcome == "failed"


def test_a_takeover_that_took_effect_after_its_driver_gave_up_is_made_again():
    async def scene(at):
        asked = at.ask(40)
        await at.until(lambda: asked.text)
        at.world.replicas[0].kill(60)
        await asyncio.sleep(14)
        at.world.database.freeze(12)
        return asked

    _, world = play(scene, replicas=2)
    (row,) = world.table.rows.values()
    assert row.state >= JobState.SUCCEEDED


def test_a_whole_answer_is_ended_once(monkeypatch):
    written = []
    execute = JobTable.execute

    def watched(self, statement, parameters):
        written.append(statement == jobs.FINISH)
        return execute(self, statement, parameters)

    monkeypatch.setattr(JobTable, "execute", watched)

    async def scene(at):
        asked = at.ask(5, is_stream=False)
        await at.until(lambda: not asked.is_open)
        return asked

    asked, _ = play(scene)
    assert (asked.outcome, sum(written)) == ("done", 1)


def test_a_consumer_who_leaves_while_the_end_is_written_leaves_no_open_job():
    async def scene(at):
        first = at.ask(400)
        await at.until(lambda: first.text)
        second = at.ask(5, is_stream=False)
        await asyncio.sleep(9)
        at.world.database.kill(30)
        await asyncio.sleep(2)  # its patience for a node is over, and its end cannot be written
        at.leave(second)
        return second

    play(scene)


def test_who_takes_over_a_job_that_was_canceled_before_its_first_word_charges_nothing():
    async def scene(at):
        at.world.nodes[0].runtime.faults.append("hang")
        asked = at.ask(5)
        await at.until(lambda: at.row(asked) and at.row(asked).state)
        at.read(asked, replica=1)
        await asyncio.sleep(1)
        at.world.network.cut("replica_0", "database")
        at.world.later(40, lambda: at.world.network.heal("replica_0", "database"))
        at.leave(asked)
        await at.until(lambda: at.row(asked).state > 1)

    _, world = play(scene, replicas=2)
    assert [cost for _, _, cost in world.ledger.effects] == [0]


def test_a_stream_goes_on_from_where_it_was_cut_when_its_replica_is_killed():
    async def scene(at):
        asked = at.ask(150)
        await at.until(lambda: asked.text)
        at.world.replicas[0].kill(60)
        await at.until(lambda: not asked.is_open)
        reading = at.read(asked, replica=1)
        await at.until(lambda: not reading.is_open, 120)
        return reading

    reading, world = play(scene, replicas=2)
    (row,) = world.table.rows.values()
    assert (reading.outcome, reading.text == row.result, row.state) == ("COMPLETED", True, JobState.SUCCEEDED)


def test_an_answer_goes_on_on_another_node_and_both_are_paid():
    async def scene(at):
        asked = at.ask(60)
        await at.until(lambda: len(asked.text) > 60)
        next(node for node in at.world.nodes if node.runtime.in_flight).kill(60)
        await at.until(lambda: not asked.is_open)
        return asked

    asked, world = play(scene, nodes=2)
    assert asked.outcome == "done"
    assert min(world.ledger.earned.values()) > 0


def test_an_attempt_that_lost_its_driver_ends_when_the_next_one_comes_to_the_same_node():
    async def scene(at):
        at.world.nodes[0].runtime.faults.append("hang")
        asked = at.ask(5)
        await at.until(lambda: at.world.nodes[0].runtime.in_flight)
        (end,) = at.world.network.between("replica_0", "node_a")[-1:]
        end.break_off()
        await at.until(lambda: not asked.is_open)
        return asked

    asked, world = play(scene, slots=2)
    first, second = world.generations.all[:2]
    assert (asked.outcome, second.attempt) == ("done", 2)
    assert first.ended_at <= second.started_at


def test_who_waits_for_a_slot_gets_it_from_the_next_dispatcher():
    async def scene(at):
        first = at.ask(60)
        await at.until(lambda: first.text)
        second = at.ask(5)
        await asyncio.sleep(1)
        at.world.dispatcher.kill(1)
        await at.until(lambda: not second.is_open)
        return second

    second, _ = play(scene)
    assert second.outcome == "done"


def test_a_long_job_stays_with_its_driver():
    async def scene(at):
        asked = at.ask(400)
        await at.until(lambda: at.row(asked) is not None)
        first = at.row(asked).driver
        await at.until(lambda: not asked.is_open, 80)
        return asked.outcome, at.row(asked).driver == first

    said, _ = play(scene, replicas=2)
    assert said == ("done", True)


def test_a_driver_that_lost_its_job_does_not_end_it():
    async def scene(at):
        asked = at.ask(400)
        await at.until(lambda: asked.text)
        reading = at.read(asked, replica=1)
        for way in (("replica_0", "database"), ("replica_0", "node_a"), ("node_a", "replica_0")):
            at.world.network.cut(*way)
            at.world.later(25, partial(at.world.network.heal, *way))
        await at.until(lambda: not reading.is_open, 120)
        return reading

    reading, world = play(scene, replicas=2)
    (row,) = [row for row in world.table.rows.values() if "words 400" in row.request]
    assert (reading.outcome, row.state, reading.text) == ("COMPLETED", JobState.SUCCEEDED, row.result)


def test_a_hold_that_never_became_a_job_is_given_back_before_it_expires():
    async def scene(at):
        at.world.network.cut("ledger", "replica_0")
        at.world.later(5, partial(at.world.network.heal, "ledger", "replica_0"))
        asked = at.ask(5)
        await at.until(lambda: not asked.is_open)
        return asked

    asked, world = play(scene)
    assert (asked.status, next(how for how, _, _ in world.ledger.effects)) == (503, "void_retryable")


def test_an_answer_that_nobody_could_go_on_with_is_paid_to_who_began_it():
    async def scene(at):
        asked = at.ask(60)
        await at.until(lambda: len(asked.text) > 60)
        at.world.nodes[0].kill(60)
        await at.until(lambda: not asked.is_open)
        return asked

    asked, world = play(scene)
    assert (asked.outcome, [how for how, _, _ in world.ledger.effects][:1]) == ("failed", ["capture"])

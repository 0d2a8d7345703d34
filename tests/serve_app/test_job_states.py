"""A job's states (S17, D27): whatever is written in whatever order, by whomever, an end state never changes and late results are refused."""

import asyncio
import uuid

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.client import new_hold_id
from serve_app.db import Line
from serve_app.store.cancels import Cancels
from serve_app.store.jobs import JobStore, JobWriter
from serve_app.store.records import WIRE_STATES, Finish, JobState, NewJob, Progress

DRIVERS = ("a", "b")
ENDS = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.sampled_from(DRIVERS), st.integers(1, 3)),
        st.tuples(st.just("end"), st.sampled_from(DRIVERS), st.sampled_from(ENDS)),
        st.tuples(st.just("adopt"), st.sampled_from(DRIVERS), st.none()),
        st.tuples(st.just("cancel"), st.none(), st.none()),
        st.tuples(st.just("settle"), st.sampled_from(DRIVERS), st.none()),
    ),
    max_size=12,
)


def test_each_state_has_one_word_on_the_wire():
    """S17."""
    assert set(WIRE_STATES) == set(JobState)
    assert list(WIRE_STATES.values()) == ["PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELED"]


class Model:
    """What should be so."""

    def __init__(self):
        self.state, self.driver, self.attempt, self.result = JobState.QUEUED, "a", 1, None

    @property
    def has_ended(self):
        return self.state in ENDS


class Rows:
    """The real rows of one job, and two drivers that write them."""

    def __init__(self, database):
        self.database = database
        self.id = new_hold_id()
        self.writers = {name: JobWriter(database.serve_url, name) for name in DRIVERS}
        self.store = JobStore(database.serve_url)
        self.line = Line(database.serve_url, name="marks")

    async def __aenter__(self):
        for writer in self.writers.values():
            writer.start()
        row = NewJob(
            id=self.id, user="u", username="u", key="k", kind="chat", model="m", node="n", held=1, request="{}", terms="{}", why="[]", is_sync=False
        )  # fmt: skip
        assert await self.writers["a"].create(row)
        return self

    async def __aexit__(self, *_):
        for writer in self.writers.values():
            await writer.aclose()
        await self.store.aclose()
        await self.line.drop()

    async def take(self, step, model):
        """Do a step for real and in the model; answer what both say of it."""
        what, driver, more = step
        writer = self.writers.get(driver)
        is_driver = driver == model.driver and not model.has_ended
        if what == "run":
            done = await writer.raise_attempt(Progress(id=self.id, attempt=more, node=f"n{more}", is_running=True))
            if is_ours := is_driver and more >= model.attempt:
                model.state, model.attempt = JobState.RUNNING, more
            return done, is_ours
        if what == "end":
            result = uuid.uuid4().hex
            done = await writer.finish(
                Finish(
                    id=self.id, node="n", attempt=model.attempt, state=more, is_incomplete=False, prompt_tokens=1, completion_tokens=1,
                    counted_by="provider", owed="void", cost=0, error=None, result=result,
                )
            )  # fmt: skip
            if is_driver:
                model.state, model.result = more, result
            return done, is_driver
        if what == "adopt":
            with psycopg.connect(self.database.admin_url, autocommit=True) as admin:
                admin.execute(
                    "UPDATE serve_app.job SET lease_until = clock_timestamp() - interval '1 s' WHERE id = %s AND state < 2", [self.id]
                )
            taken = [row.id for row in await self.store.adopt(driver, ())]
            expected = not model.has_ended
            if expected:
                model.driver = driver
            return self.id in taken, expected
        if what == "cancel":
            return await Cancels(self.line).want(self.id) is not None, not model.has_ended
        writer.settled(self.id, 0)
        return True, True


@settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_an_end_state_never_changes_and_late_results_are_refused(database, steps):
    """D27."""

    async def scenario():
        model = Model()
        async with Rows(database) as rows:
            for step in steps:
                said, expected = await rows.take(step, model)
                assert said == expected, step
                record = await rows.store.find(rows.id)
                assert (record.state, record.attempt, record.result) == (model.state, model.attempt, model.result), step
            with psycopg.connect(database.admin_url, autocommit=True) as admin:
                admin.execute("UPDATE serve_app.job SET lease_until = 'infinity' WHERE state < 2")

    asyncio.run(scenario())

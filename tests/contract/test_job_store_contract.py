"""What the rows of jobs promise their writers: PostgreSQL and the rows of the simulation, alike."""

import asyncio
import time
import uuid

import pytest

import serve_app.db
from cluster.jobs import JobKind
from serve_app.store import jobs
from serve_app.store.jobs import JobStore, JobWriter
from serve_app.store.records import Finish, JobState, NewJob, Progress
from tests.simulation.database import Connection, JobTable


@pytest.fixture(params=["simulated", "postgresql"])
def url(request, monkeypatch):
    """Where the rows are: a URL of the real server, or of the simulation's rows, which need no network here."""
    if request.param == "postgresql":
        return request.getfixturevalue("database").serve_url
    table = JobTable(time.time)

    class Direct(Connection):
        @classmethod
        async def connect(cls, url, **options):
            return cls(None)

        async def query(self, statement, parameters):
            return table.execute(statement.decode(), parameters)

        async def close(self):
            self.closed = True

    monkeypatch.setattr(serve_app.db, "AsyncConnection", Direct)
    return "simulated"


@pytest.fixture
async def rows(url):
    made = []

    def driver(name):
        made.append(JobWriter(url, name))
        made[-1].start()
        return made[-1]

    store = JobStore(url)
    yield driver, store
    for one in (*made, store):
        await one.aclose()


def new_job(**changes):
    fields = {
        "id": uuid.uuid4(), "user": "user_a", "username": "ada", "key": "k", "kind": JobKind.CHAT, "model": "m", "node": None, "held": 100,
        "request": '{"max_tokens": 5}', "terms": "{}", "why": "[]",
    }  # fmt: skip
    return NewJob(**(fields | changes))


def end_of(id_, **changes):
    fields = {
        "id": id_, "node": "node_b", "attempt": 2, "state": JobState.SUCCEEDED, "is_incomplete": False, "prompt_tokens": 3, "completion_tokens": 4,
        "counted_by": "platform", "owed": "capture:succeeded", "cost": 7, "error": None, "result": "hello", "marks": "[5]",
        "weights": "d" * 64, "receipt": '{"signature": "s"}',
    }  # fmt: skip
    return Finish(**(fields | changes))


async def test_a_job_is_recorded_once(rows):
    driver, store = rows
    writer, job = driver("one"), new_job()
    assert await writer.create(job)
    assert not await writer.create(job)
    assert not await driver("two").create(job)
    found = await store.find(job.id)
    assert (found.state, found.attempt, found.node, found.held, found.cost, found.request) == (
        JobState.QUEUED,
        1,
        None,
        100,
        None,
        {"max_tokens": 5},
    )
    assert await store.known([job.id, uuid.uuid4()]) == {job.id}
    assert await store.find(uuid.uuid4()) is None


async def test_attempts_go_up_only_and_by_the_driver_only(rows):
    driver, store = rows
    writer, other, job = driver("one"), driver("two"), new_job()
    await writer.create(job)
    assert await writer.raise_attempt(Progress(id=job.id, attempt=2, node="node_b", is_running=True))
    started = (await store.find(job.id)).started_at
    assert not await writer.raise_attempt(Progress(id=job.id, attempt=1, node="node_a", is_running=True))
    assert not await other.raise_attempt(Progress(id=job.id, attempt=3, node="node_a", is_running=True))
    assert await writer.raise_attempt(Progress(id=job.id, attempt=2, node="node_c", is_running=False))
    found = await store.find(job.id)
    assert (found.state, found.attempt, found.node, found.started_at) == (JobState.RUNNING, 2, "node_c", started)
    assert started is not None


async def test_an_end_is_written_once_and_by_the_driver_only(rows):
    driver, store = rows
    writer, other, job = driver("one"), driver("two"), new_job(node="node_a")
    await writer.create(job)
    assert not await other.finish(end_of(job.id))
    assert await writer.finish(end_of(job.id))
    assert not await writer.finish(end_of(job.id, state=JobState.FAILED, result="other"))
    assert not await writer.raise_attempt(Progress(id=job.id, attempt=9, node="node_z", is_running=True))
    found = await store.find(job.id)
    assert (found.state, found.node, found.attempt, found.cost, found.result, found.marks) == (
        JobState.SUCCEEDED,
        "node_b",
        2,
        7,
        "hello",
        "[5]",
    )
    assert (found.weights, found.receipt) == ("d" * 64, {"signature": "s"})
    assert found.ended_at is not None
    assert not await writer.finish(end_of(uuid.uuid4()))


async def test_an_end_without_a_node_or_a_text_keeps_what_was_known(rows):
    driver, store = rows
    writer, job = driver("one"), new_job(node="node_a", why='["first"]')
    await writer.create(job)
    await writer.raise_attempt(Progress(id=job.id, attempt=4, node="node_d", is_running=True))
    assert await writer.finish(end_of(job.id, node=None, attempt=1, result=None, marks=None, state=JobState.FAILED, error="it broke"))
    found = await store.find(job.id)
    assert (found.node, found.attempt, found.result, found.error, found.why) == ("node_d", 4, None, "it broke", ["first"])


async def test_what_is_owed_is_listed_until_it_is_settled(rows):
    driver, store = rows
    writer, job, open_job = driver("one"), new_job(), new_job()
    await writer.create(job)
    await writer.create(open_job)
    await writer.finish(end_of(job.id, served="[1]"))
    assert await store.owed(60) == []
    (owed,) = await store.owed(0)
    assert (owed.id, owed.what, owed.prompt_tokens, owed.completion_tokens) == (job.id, "capture:succeeded", 3, 4)
    assert (owed.counted_by, owed.node, owed.attempt, owed.served) == ("platform", "node_b", 2, "[1]")
    writer.settled(job.id, 6)
    async with asyncio.timeout(60):
        while await store.owed(0):
            await asyncio.sleep(0.01)
    writer.settled(job.id, 99)  # settled before: nothing changes
    await writer.create(new_job())
    assert (await store.find(job.id)).cost == 6


async def test_a_lost_job_is_adopted_by_one_and_its_old_driver_writes_nothing(rows, monkeypatch):
    driver, store = rows
    writer, other, job, kept = driver("one"), driver("two"), new_job(), new_job()
    monkeypatch.setattr(jobs, "LEASE_S", 0.01)
    await writer.create(job)
    monkeypatch.setattr(jobs, "LEASE_S", 60)
    await writer.create(kept)
    await asyncio.sleep(0.05)
    assert await store.adopt("three", {job.id}) == []  # who drives it does not adopt it
    (adopted,) = await store.adopt("two", set())
    assert (adopted.id, adopted.state, adopted.attempt, adopted.is_wanted, adopted.is_sync) == (job.id, JobState.QUEUED, 1, False, True)
    assert await store.adopt("three", set()) == []
    assert not await writer.finish(end_of(job.id))
    assert await other.finish(end_of(job.id))


async def test_a_renewed_lease_does_not_run_out_and_only_what_is_driven_is_renewed(rows, monkeypatch):
    driver, store = rows
    writer, driven, forgotten = driver("one"), new_job(is_sync=False), new_job()
    monkeypatch.setattr(jobs, "LEASE_S", 0.01)
    await writer.create(driven)
    await writer.create(forgotten)
    monkeypatch.setattr(jobs, "LEASE_S", 60)
    await store.renew("two", [driven.id, forgotten.id])
    await store.renew("one", [driven.id])
    await asyncio.sleep(0.05)
    assert [one.id for one in await store.adopt("one", set())] == [forgotten.id]


async def test_a_job_that_somebody_reads_is_wanted(rows, monkeypatch):
    driver, store = rows
    writer, job, alone = driver("one"), new_job(), new_job(is_sync=False)
    monkeypatch.setattr(jobs, "LEASE_S", 0.01)
    await writer.create(job)
    await writer.create(alone)
    assert not await store.is_seen(job.id)
    await store.note_seen(job.id)
    assert await store.is_seen(job.id)
    assert not await store.is_seen(uuid.uuid4())
    await asyncio.sleep(0.05)
    assert {one.id: one.is_wanted for one in await store.adopt("two", set())} == {job.id: True, alone.id: True}
    monkeypatch.setattr(jobs, "SEEN_S", 0.001)
    assert not await store.is_seen(job.id)


async def test_a_buried_job_stays_buried_when_its_record_comes_late(rows):
    driver, store = rows
    writer, other, late, recorded, foreign = driver("one"), driver("two"), new_job(), new_job(), new_job()
    await store.bury(late, "one")
    assert not await writer.create(late)
    await writer.create(recorded)
    await store.bury(recorded, "one")
    await other.create(foreign)
    await store.bury(foreign, "one")
    owed = {one.id: one.what for one in await store.owed(0)}
    assert owed == {late.id: "void_retryable", recorded.id: "void_retryable"}
    assert await store.find(late.id) is None
    assert (await store.find(recorded.id)).state is JobState.FAILED
    assert (await store.find(foreign.id)).state is JobState.QUEUED


async def test_who_adopts_a_job_learns_what_earlier_nodes_served(rows, monkeypatch):
    driver, store = rows
    writer, job = driver("one"), new_job()
    monkeypatch.setattr(jobs, "LEASE_S", 0.01)
    await writer.create(job)
    served = '[{"node":"node_a","attempt":1,"tokens":7}]'
    assert await writer.raise_attempt(Progress(id=job.id, attempt=2, node="node_b", is_running=False, served=served))
    assert await writer.raise_attempt(Progress(id=job.id, attempt=2, node="node_b", is_running=True))
    await asyncio.sleep(0.05)
    (adopted,) = await store.adopt("two", set())
    assert (adopted.node, adopted.attempt, adopted.served) == ("node_b", 2, served)

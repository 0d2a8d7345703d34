"""Changes are read in the order of their numbers, each once, however the transactions that wrote them end."""

import asyncio
import dataclasses
import uuid

import psycopg
import pytest

from serve_app.db import DatabaseUnavailable
from serve_app.live import changes as reading
from serve_app.live.changes import Changes
from serve_app.store.jobs import JobStore, JobWriter
from serve_app.store.records import JobState, Progress
from tests.contract.test_job_store_contract import end_of, new_job

ADA = "user_a"
INSERT = (
    "INSERT INTO serve_app.job (id, user_id, username, key_id, kind, model, held, is_sync) "
    "VALUES (%s, 'user_a', 'ada', 'k', 'chat', 'm', 1, true) RETURNING change"
)


class Reader:
    """Reads on, as the hub does."""

    def __init__(self, changes):
        self.changes = changes
        self.position = None
        self.told = []

    async def once(self):
        """Read once; False: something is new that cannot be told yet."""
        if self.position is None:
            self.position = await self.changes.begin()
            return self.position is not None
        try:
            found = await self.changes.read(self.position, {ADA}, set())
        except DatabaseUnavailable:  # a machine that stands still for some seconds: the hub asks again too
            return False
        if found is None:
            return False
        self.position, told = found
        self.told += told
        return True

    @property
    def numbers(self):
        return [one.number for one in self.told]


async def until_known(write):
    """Repeat a write whose outcome is unknown, as its callers do: the same id, so at most once."""
    while True:
        try:
            return await write()
        except DatabaseUnavailable:
            continue


@pytest.fixture
async def reader(database):
    changes = Changes(database.serve_url)
    reader = Reader(changes)
    assert await reader.once()
    yield reader
    await changes.aclose()


@pytest.fixture
async def writer(database):
    writer = JobWriter(database.serve_url, "one")
    writer.start()
    yield writer
    await writer.aclose()


@pytest.fixture
def transaction(database):
    """Open transactions of the job writers' own login."""
    opened = []

    def begin():
        opened.append(psycopg.connect(database.serve_url))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


def insert(connection):
    id_ = uuid.uuid4()
    return id_, connection.execute(INSERT, [id_]).fetchone()[0]


async def test_every_write_of_a_jobs_life_has_a_number_of_its_own(reader, writer):
    job = new_job(prompt="hello", node="node_a")
    states = []
    for write in (
        lambda: writer.create(job),
        lambda: writer.raise_attempt(Progress(id=job.id, attempt=1, node="node_a", is_running=True)),
        lambda: writer.raise_attempt(Progress(id=job.id, attempt=2, node="node_b", is_running=True)),
        lambda: writer.finish(end_of(job.id)),
        lambda: _settled(writer, job.id),
    ):
        await write()
        await until_told(reader, len(states) + 1)
        told = reader.told[-1]
        states.append((told.state, told.node, told.cost, told.is_settled))
    assert states == [
        (JobState.QUEUED, "node_a", None, False),
        (JobState.RUNNING, "node_a", None, False),
        (JobState.RUNNING, "node_b", None, False),
        (JobState.SUCCEEDED, "node_b", 7, False),
        (JobState.SUCCEEDED, "node_b", 9, True),
    ]
    assert reader.numbers == sorted(set(reader.numbers))
    assert {(one.id, one.user, one.prompt) for one in reader.told} == {(job.id, ADA, "hello")}


async def _settled(writer, id_):
    writer.settled(id_, 9)


async def until_told(reader, count):
    async with asyncio.timeout(60):
        while len(reader.told) < count:
            await reader.once()
            await asyncio.sleep(0.01)
    assert len(reader.told) == count


async def test_what_nobody_sees_of_a_job_has_no_number(reader, writer, database):
    job = new_job()
    await writer.create(job)
    await until_told(reader, 1)
    store = JobStore(database.serve_url)
    await store.renew("one", [job.id])
    await store.note_seen(job.id)
    assert await reader.once()
    assert len(reader.told) == 1
    await store.aclose()


async def test_a_buried_job_is_told(reader, database):
    store = JobStore(database.serve_url)
    await store.bury(new_job(), "one")
    await until_told(reader, 1)
    assert reader.told[0].state is JobState.FAILED
    await store.aclose()


async def test_a_lower_number_that_commits_later_is_not_passed_over(reader, transaction):
    slow, fast = transaction(), transaction()
    late, low = insert(slow)
    early, high = insert(fast)
    fast.commit()
    assert low < high
    for _ in range(3):
        assert not await reader.once()  # the higher one is visible, and must wait
    assert reader.told == []
    slow.commit()
    assert await reader.once()
    assert [(one.number, one.id) for one in reader.told] == [(low, late), (high, early)]
    assert await reader.once()
    assert len(reader.told) == 2


async def test_a_number_that_is_alone_on_its_way_is_not_passed_over(reader, transaction):
    """Its transaction is the newest of all: a snapshot's own upper end does not count it among those in flight."""
    slow = transaction()
    late, _ = insert(slow)
    for _ in range(3):
        assert not await reader.once()
    slow.commit()
    assert await reader.once()
    assert [one.id for one in reader.told] == [late]


async def test_a_number_of_a_transaction_that_was_rolled_back_is_waited_for_and_no_longer(reader, transaction):
    slow, fast = transaction(), transaction()
    insert(slow)
    early, _ = insert(fast)
    fast.commit()
    assert not await reader.once()
    slow.rollback()
    assert await reader.once()
    assert [one.id for one in reader.told] == [early]


async def test_who_draws_after_the_mark_is_left_to_the_next_reading(reader, transaction):
    slow, fast, later = transaction(), transaction(), transaction()
    insert(slow)
    early, _ = insert(fast)
    fast.commit()
    assert not await reader.once()
    after, _ = insert(later)
    later.commit()
    slow.rollback()
    assert await reader.once()
    assert [one.id for one in reader.told] == [early]
    assert await reader.once()
    assert [one.id for one in reader.told] == [early, after]


async def test_a_reader_that_begins_while_a_number_is_on_its_way_still_hears_it(database, transaction):
    slow, fast = transaction(), transaction()
    late, _ = insert(slow)
    insert(fast)
    fast.commit()
    changes = Changes(database.serve_url)
    reader = Reader(changes)
    assert not await reader.once()
    slow.commit()
    assert await reader.once()
    page = await changes.page(ADA)
    told = {one.id for one in page if one.number <= reader.position}
    await reader.once()
    assert late in told | {one.id for one in reader.told}
    await changes.aclose()


async def test_a_transaction_that_never_ends_delays_others_but_not_for_ever(reader, transaction, monkeypatch):
    stuck, fast = transaction(), transaction()
    stuck.execute("SELECT pg_current_xact_id()")
    early, _ = insert(fast)
    fast.commit()
    assert not await reader.once()
    monkeypatch.setattr(reading, "HOLD_LIMIT_S", 0)
    assert await reader.once()
    assert [one.id for one in reader.told] == [early]


async def test_many_writers_at_once_lose_nothing_and_repeat_nothing(database):
    """Four writers, each a connection of its own, change the same and other jobs; one reader follows. Numbers seen are in order, ends all seen."""
    writers = [JobWriter(database.serve_url, f"driver {n}") for n in range(4)]
    changes = Changes(database.serve_url)
    reader = Reader(changes)
    await reader.once()
    for writer in writers:
        writer.start()
    jobs = {}

    async def lead(writer, number):
        for _ in range(25):
            job = new_job()
            jobs[job.id] = number
            await until_known(lambda job=job: writer.create(job))
            writer.running(Progress(id=job.id, attempt=1, node="n", is_running=True))
            await until_known(lambda job=job: writer.finish(end_of(job.id)))
            writer.settled(job.id, None)

    leading = [asyncio.create_task(lead(writer, n)) for n, writer in enumerate(writers) for _ in range(3)]
    while not all(one.done() for one in leading):
        await reader.once()
        await asyncio.sleep(0)
    await asyncio.gather(*leading)
    for writer in writers:
        await writer.aclose()
    settled = lambda: {one.id for one in reader.told if one.is_settled}  # noqa: E731
    async with asyncio.timeout(60):
        while settled() != set(jobs):
            await reader.once()
    assert reader.numbers == sorted(set(reader.numbers))
    rank = {}
    for one in reader.told:
        at = (one.state, one.is_settled)
        assert at > rank.get(one.id, (-1, False))
        rank[one.id] = at
    await changes.aclose()


async def test_more_than_one_reading_holds_comes_in_several(reader, transaction, monkeypatch):
    monkeypatch.setattr(reading, "READ_ROWS", 3)
    connection = transaction()
    made = [insert(connection)[0] for _ in range(8)]
    connection.commit()
    sizes = []
    async with asyncio.timeout(60):
        while len(reader.told) < 8:
            before = len(reader.told)
            assert await reader.once()
            sizes.append(len(reader.told) - before)
    assert (sizes, [one.id for one in reader.told]) == ([3, 3, 2], made)


async def test_an_idle_platform_is_read_without_writing(reader, database):
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        ids = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        before = admin.execute(ids).fetchone()[0]
        for _ in range(20):
            assert await reader.once()
        assert admin.execute(ids).fetchone()[0] == before


async def test_the_index_is_what_a_reading_uses(database, transaction):
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "INSERT INTO serve_app.job (id, user_id, username, key_id, kind, model, held, is_sync) "
            "SELECT gen_random_uuid(), 'user_' || n % 500, 'x', 'k', 'chat', 'm', 1, true FROM generate_series(1, 20000) n"
        )
        admin.execute("ANALYZE serve_app.job, serve_app.job_text")
        last = admin.execute("SELECT last_value FROM serve_app.change").fetchone()[0]
    changes = Changes(database.serve_url)
    for statement, parameters in (
        (reading.READ, (0, last - 40, last, [ADA], ["node_a"], 1000)),
        (reading.REPLAY, (last - 400, last, ADA, 201)),
        (reading.PAGE, (ADA, 25)),
    ):
        plan = "\n".join(row[0] for row in await changes._pages.query("EXPLAIN " + statement, parameters))
        assert "Seq Scan on job " not in plan, plan
        assert ("job_change" in plan) is (statement is not reading.PAGE), plan
    await changes.aclose()


async def test_what_was_missed_is_told_as_it_stands(reader, writer):
    first, second, other = new_job(), new_job(), new_job(user="user_b")
    for job in (first, second, other):
        await writer.create(job)
    since = (await reader.changes.page(ADA))[-1].number - 1
    await writer.finish(end_of(first.id))
    await settle_position(reader)
    missed = await reader.changes.missed(ADA, since, reader.position)
    assert [(one.id, one.state) for one in missed] == [(second.id, JobState.QUEUED), (first.id, JobState.SUCCEEDED)]
    assert await reader.changes.missed(ADA, reader.position, reader.position) == []
    assert await reader.changes.missed(ADA, reader.position + 1000, reader.position) is None


async def settle_position(reader):
    async with asyncio.timeout(60):
        while not await reader.once():
            await asyncio.sleep(0.01)


async def test_another_replica_may_be_ahead(reader, writer):
    behind = reader.position
    await writer.create(new_job())
    await settle_position(reader)
    assert await reader.changes.missed(ADA, reader.position, behind) == []


def test_a_change_says_whether_the_job_is_over():
    change = reading.Change(
        number=1, id=uuid.uuid4(), user=ADA, state=JobState.RUNNING, model="m", cost=None, created_at=None, ended_at=None, node=None,
        is_settled=False, prompt="",
    )  # fmt: skip
    assert not change.has_ended
    assert dataclasses.replace(change, state=JobState.CANCELED).has_ended

"""Jobs outlive their driver: another one attaches, goes on or ends them; nothing is said twice, nobody pays twice, and when we break, we pay."""

import asyncio

import psycopg
import pytest

from cluster.jobs import JobKind, Text
from serve_app.adoption import adopt_for_ever, adopt_once
from serve_app.driving import drive
from serve_app.job import JobRequest
from serve_app.submission import open_job
from tests.scripted_runtime import words_of
from tests.serve_app.drivers import close_driver, events_of, expire_leases, start_driver
from tests.waiting import until


def asked(model="fake:drip=0.1", max_tokens=12, text="hello there"):
    request = {"messages": [{"role": "user", "content": text}], "options": {"temperature": 1.0}}
    return JobRequest(kind=JobKind.CHAT, model=model, request=request, max_tokens=max_tokens, prompt_bytes=64)


@pytest.fixture
async def lost(platform):
    driver = await start_driver(platform, "driver-lost")
    yield driver
    await driver.context.store.aclose()


@pytest.fixture
async def heir(platform):
    driver = await start_driver(platform, "driver-heir")
    yield driver
    await close_driver(driver)


async def begin(driver, platform, model="fake:drip=0.1", texts=2):
    """Open a job and drive it until it has said something."""
    job = await open_job(driver.context, platform.key, asked(model))
    driven = drive(driver.context, job)
    said = ""
    async for event in driven:
        if isinstance(event, Text):
            said += event.content
            texts -= 1
        if texts <= 0:
            break
    return job, driven, said


async def adopt(heir):
    """Adopt what is lost, and wait for what becomes of it."""
    count = await adopt_once(heir.context, heir.context.store)
    await heir.context.drained(20)
    return count


async def stream_of(platform, name, from_seq=0):
    answer = await platform.http.get(f"/api/computing/jobs/{name}/stream/?from={from_seq}", headers=platform.bearer)
    assert answer.status_code == 200, answer.text
    return events_of(answer.text)


def text_in(events):
    return "".join(event.get("content", "") for event in events if event["event"] == "text")


async def test_a_job_that_nobody_reads_ends_when_its_driver_is_lost_and_costs_nothing(platform, database, lost, heir):
    job, driven, _ = await begin(lost, platform)
    await lost.die()
    expire_leases(database)
    assert await adopt(heir) == 1
    told = await platform.job(job.name)
    assert (told["status"], told["incomplete"], told["cost"]) == ("FAILED", True, "0.00")
    assert await platform.settled() == "10.00"
    assert platform.workers[0].node.running == 0
    await driven.aclose()


async def test_who_served_it_is_paid_by_the_platform(platform_with, database):
    platform = await platform_with(ledger_settings={"completion_price": "1000000.00"}, credits="5000.00")
    lost, heir = await start_driver(platform, "driver-lost"), await start_driver(platform, "driver-heir")
    _, driven, _ = await begin(lost, platform, texts=3)
    await lost.die()
    expire_leases(database)
    await adopt(heir)
    await heir.context.settlement.settle_all(await heir.context.store.owed(0))
    assert await platform.settled() == "5000.00"
    with psycopg.connect(database.admin_url) as admin:
        paid = dict(
            admin.execute(
                "SELECT address, posted FROM ledger.account WHERE address = 'platform:goodwill' OR address LIKE '%pending%'"
            ).fetchall()
        )
    goodwill = paid.pop("platform:goodwill")
    assert goodwill < 0
    assert sum(paid.values()) == -goodwill
    await driven.aclose()
    await close_driver(heir)


async def test_a_job_that_is_read_goes_on_and_ends_well(platform, database, lost, heir):
    job, driven, said = await begin(lost, platform)
    reading = asyncio.create_task(stream_of(platform, job.name, len(job.events)))
    await until(lambda: platform.workers[0]._attempts[job.name, 1].log.readers > 1)
    await lost.die()
    expire_leases(database)
    assert await adopt(heir) == 1
    events = await reading
    assert said + text_in(events) == "".join(words_of("hello there", 12))
    assert (events[-1]["event"], events[-1]["status"], events[-1]["cost"]) == ("end", "COMPLETED", "1.00")
    assert [event["seq"] for event in events[:-1]] == list(range(len(job.events), len(job.events) + len(events) - 1))
    assert await platform.settled() == "9.00"
    await driven.aclose()


async def test_the_old_driver_writes_nothing_any_more(platform, database, lost, heir):
    job, driven, _ = await begin(lost, platform)
    await heir.context.store.note_seen(job.id)
    expire_leases(database)
    assert await adopt(heir) == 1
    rest = [event async for event in driven]
    assert rest, "it reads the same log to the same end"
    told = await platform.job(job.name)
    assert (told["status"], told["cost"], told["result"]["output"]) == ("COMPLETED", "1.00", "".join(words_of("hello there", 12)))
    assert await platform.settled() == "9.00"
    await close_driver(lost)


async def test_a_waiting_job_that_runs_by_itself_is_queued_again(platform, database, lost, heir):
    job = await open_job(lost.context, platform.key, asked("fake:words=3"))
    assert job.node is not None
    await lost.die()
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE serve_app.job SET is_sync = false, node = NULL")
    expire_leases(database)
    assert await adopt(heir) == 1
    told = await platform.job(job.name)
    assert (told["status"], told["attempts"], told["cost"]) == ("COMPLETED", 2, "1.00")


async def test_a_lease_that_is_renewed_in_time_is_nobodys_to_take(platform, database, lost, heir):
    job, driven, _ = await begin(lost, platform)
    assert await adopt(heir) == 0
    expire_leases(database)
    await lost.context.store.renew("driver-lost", lost.context.writer.live)
    assert await adopt(heir) == 0
    assert [event async for event in driven]
    assert (await platform.job(job.name))["status"] == "COMPLETED"
    await close_driver(lost)


async def test_a_database_that_was_away_lets_owners_renew_before_anybody_takes_over(platform, database, heir, monkeypatch):
    from serve_app import adoption

    monkeypatch.setattr(adoption, "LOOK_S", 0.05)
    monkeypatch.setattr(adoption, "STEADY_S", 1.0)
    calls = []

    async def adopted(_driver, _live):
        calls.append(asyncio.get_running_loop().time())
        return []

    monkeypatch.setattr(heir.context.store, "adopt", adopted)
    began = asyncio.get_running_loop().time()
    looking = asyncio.create_task(adopt_for_ever(heir.context, heir.context.store))
    await until(lambda: calls)
    assert calls[0] - began > 1.0
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def test_a_job_that_its_own_driver_forgot_runs_out_of_its_lease_and_is_ended(platform, database, heir):
    """A record that came late: the driver gave it up, the row is there."""
    job = await open_job(heir.context, platform.key, asked("fake:words=3"))
    heir.context.writer.live.discard(job.id)
    await heir.context.store.renew("driver-heir", heir.context.writer.live)
    expire_leases(database)
    assert await adopt(heir) == 1
    assert (await platform.job(job.name))["status"] == "FAILED"
    assert await platform.settled() == "10.00"


async def test_a_record_that_comes_after_it_was_given_up_meets_a_stone(platform, database, heir):
    """The insert took effect late, or never: in both cases the job has ended and its hold is back."""
    from serve_app.ends import forget
    from serve_app.submission import _row_of

    recorded = await open_job(heir.context, platform.key, asked("fake:words=3"))
    await forget(heir.context, _row_of(recorded))
    late = await open_job(heir.context, platform.key, asked("fake:words=3"))
    row = _row_of(late)
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("DELETE FROM serve_app.job WHERE id = %s", [late.id])
    await forget(heir.context, row)
    assert not await heir.context.writer.create(row)
    assert (await platform.job(recorded.name))["status"] == "FAILED"
    assert await platform.settled() == "10.00"


async def test_a_job_that_was_canceled_before_its_first_word_is_free_for_whoever_ends_it(platform, database, lost, heir):
    job = await open_job(lost.context, platform.key, asked("fake:hang@0"))
    driven = drive(lost.context, job)
    first = asyncio.ensure_future(anext(driven))
    await until(lambda: platform.workers[0].node.running)
    await heir.context.store.note_seen(job.id)
    await lost.die()
    platform.workers[0].cancel(job.name, 1)
    expire_leases(database)
    await adopt(heir)
    told = await platform.job(job.name)
    assert (told["status"], told["cost"]) == ("CANCELED", "0.00")
    assert await platform.settled() == "10.00"
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_a_job_that_may_have_spoken_on_a_machine_that_is_gone_is_not_begun_anew(platform, database, lost, heir):
    """Whoever heard its beginning would hear another one."""
    job, driven, _ = await begin(lost, platform)
    await heir.context.store.note_seen(job.id)
    await lost.die()
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE serve_app.job SET node = 'node_gone'")
    expire_leases(database)
    await adopt(heir)
    told = await platform.job(job.name)
    assert (told["status"], told["incomplete"], told["cost"]) == ("FAILED", True, "0.00")
    assert await platform.settled() == "10.00"
    await driven.aclose()

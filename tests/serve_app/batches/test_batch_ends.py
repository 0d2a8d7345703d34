"""Batches whose runner is lost, which are canceled or expire, whose key is revoked; and whose they are."""

import asyncio
import hashlib
import json
from datetime import timedelta

import openai
import psycopg
import pytest

from ledger.client import uuid_of
from serve_app import sweeper
from serve_app.batches import runner as runner_module
from serve_app.batches.lines import request_key
from serve_app.db import DatabaseUnavailable
from tests.ledger.people import somebody
from tests.serve_app.batches.consumer import CHAT, Batches, client_of, line, lose_leases
from tests.serve_app.drivers import close_driver, start_driver
from tests.waiting import until

# --- losses -----------------------------------------------------------------------------------------------------------------------------


async def test_a_second_replica_goes_on_and_no_line_runs_twice(rich, database):
    lost = await start_driver(rich.platform, "driver-lost")
    heir = await start_driver(rich.platform, "driver-heir")
    runner, task = await rich.run(lost)
    batch = await rich.create(*(line(f"r{n}", model="fake:long=200@0.01", max_tokens=8) for n in range(40)))
    await until(lambda: len(rich.jobs()) > 10)

    async def nothing(*_):
        return False

    for name in ("end_lines", "note_job", "release", "renew"):  # nothing of it is written any more
        setattr(runner._batches, name, nothing)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    lose_leases(database)
    await rich.run(heir)
    batch = await rich.ended(batch)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 40, 0)
    assert [one["custom_id"] for one in await rich.results(batch)] == [f"r{n}" for n in range(40)]
    assert len(rich.jobs()) == 40
    assert await rich.platform.settled() == "480.00"
    await close_driver(lost)
    await close_driver(heir)


async def test_a_line_that_was_held_and_never_recorded_runs_when_its_hold_is_back(rich, monkeypatch):
    """Its runner was killed between the hold and the record."""
    monkeypatch.setattr(runner_module, "LONGEST_PAUSE_S", 0.05)
    asked = line("a")
    batch = await rich.create(asked, line("b"))
    digest = hashlib.sha256(json.dumps(asked["body"], sort_keys=True).encode()).hexdigest()
    key = request_key(uuid_of("batch", batch.id), 1)
    ledger = rich.platform.ledger
    placed = await ledger.client.place_hold(ledger.hold(idempotency_key=key, request_digest=digest, batch=True))
    await rich.run()
    await until(lambda: len(rich.jobs()) == 1)
    monkeypatch.setattr(sweeper, "HOLD_WITHOUT_JOB_S", 0)
    await sweeper.sweep_once(rich.platform.context.store, ledger.client)
    batch = await rich.ended(batch)
    assert [one["custom_id"] for one in await rich.results(batch)] == ["a", "b"]
    assert placed.id not in {row[0] for row in rich.jobs()}
    assert await rich.platform.settled() == "499.00"


async def test_two_runners_at_once_write_each_line_once(rich, database, monkeypatch):
    """The first one was only slow: its lease ran out, and it goes on for a while."""
    monkeypatch.setattr(runner_module, "BATCHES_AT_ONCE", 1)
    first, _ = await rich.run()
    batch = await rich.create(*(line(f"r{n}", model="fake:long=200@0.01", max_tokens=8) for n in range(30)))
    await until(lambda: len(rich.jobs()) > 5)
    assert await first._batches.renew(next(iter(first._running)), first.name) == "in_progress"
    heir = await start_driver(rich.platform, "driver-heir")
    lose_leases(database)
    await rich.run(heir)
    batch = await rich.ended(batch)
    assert (batch.status, batch.request_counts.completed) == ("completed", 30)
    assert len(await rich.results(batch)) == len(rich.jobs()) == 30
    assert await rich.platform.settled() == "485.00"
    await close_driver(heir)


async def test_writes_whose_outcome_is_unknown_are_written_again_and_count_once(rich, monkeypatch):
    runner, _ = await rich.run()
    failed = dict.fromkeys(("end_lines", "note_job", "add_lines", "move", "finish", "renew"), 0)

    def unsure(name):
        write = getattr(runner._batches, name)

        async def written_and_cut(*args, **more):
            done = await write(*args, **more)
            failed[name] += 1
            if failed[name] % 3 == 1:
                raise DatabaseUnavailable(0)
            return done

        return written_and_cut

    for name in failed:
        monkeypatch.setattr(runner._batches, name, unsure(name))
    monkeypatch.setattr(runner_module, "AGAIN_S", 0.01)
    batch = await rich.ended(await rich.create(*(line(f"r{n}") for n in range(12)), "nonsense"))
    assert min(failed.values()) > 0
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 12, 1)
    assert len(await rich.results(batch)) == len(rich.jobs()) == 12
    assert await rich.platform.settled() == "494.00"


# --- other ends -------------------------------------------------------------------------------------------------------------------------


async def test_a_canceled_batch_runs_nothing_more_and_keeps_what_it_has(rich):
    batch = await rich.create(*(line(f"r{n}", model="fake:long=200@0.01", max_tokens=20) for n in range(100)))
    await rich.run()
    await until(lambda: len(rich.jobs()) > 8)
    assert (await rich.client.batches.cancel(batch.id)).status == "cancelling"
    batch = await rich.ended(batch)
    assert batch.status == "cancelled"
    assert batch.cancelled_at >= batch.cancelling_at
    results = await rich.results(batch)
    assert len(results) == batch.request_counts.completed == len(rich.jobs()) < 100
    assert float(await rich.platform.settled()) == 500 - 0.5 * len(results)
    with pytest.raises(openai.ConflictError, match="cancelled"):
        await rich.client.batches.cancel(batch.id)


async def test_a_batch_is_canceled_before_anybody_runs_it(batches):
    batch = await batches.create(line("a"))
    await batches.client.batches.cancel(batch.id)
    await batches.run()
    batch = await batches.ended(batch)
    assert (batch.status, batch.output_file_id, batches.jobs()) == ("cancelled", None, [])


async def test_what_has_not_begun_after_a_day_expires(rich):
    batch = await rich.create(*(line(f"r{n}", model="fake:long=200@0.01", max_tokens=20) for n in range(60)))
    await rich.run()
    await until(lambda: len(rich.jobs()) > 8)
    rich.clock.ahead = timedelta(hours=24, seconds=1)
    batch = await rich.ended(batch)
    assert (batch.status, bool(batch.expired_at)) == ("expired", True)
    results, errors = await rich.results(batch), await rich.errors(batch)
    assert len(results) == len(rich.jobs()) > 8
    assert {one["error"]["code"] for one in errors} == {"batch_expired"}
    assert [one["custom_id"] for one in results + errors] == [f"r{n}" for n in range(60)]
    assert float(await rich.platform.settled()) == 500 - 0.5 * len(results)


async def test_a_line_that_a_lost_runner_had_begun_has_an_end_in_an_expired_batch(rich, database):
    lost = await start_driver(rich.platform, "driver-lost")
    _, task = await rich.run(lost)
    batch = await rich.create(line("a", model="fake:long=200@0.01", max_tokens=8), line("b", model="fake:long=200@0.01", max_tokens=8))
    await until(lambda: rich.begun() == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    rich.clock.ahead = timedelta(hours=25)
    await rich.run()
    batch = await rich.ended(batch)
    assert batch.status == "expired"
    assert [one["custom_id"] for one in await rich.results(batch)] == ["a", "b"]
    assert await rich.platform.settled() == "499.00"
    await close_driver(lost)


async def test_a_batch_ends_with_its_key(rich, database):
    person = await somebody(rich.platform.ledger, "ada")
    key = await person.key()
    async with client_of(rich.platform, key) as client:
        mine = Batches(client, rich.platform, database)
        batch = await mine.create(*(line(f"r{n}", model="fake:long=200@0.01", max_tokens=20) for n in range(100)))
        second = await person.key()
        await rich.run()
        await until(lambda: len(rich.jobs()) > 8)
        row = next(row for row in (await person.get("/api/core/keys/")).json()["results"] if row["id"] in key)
        answer = await person.call("DELETE", f"/api/core/keys/{row['id']}/")
        assert answer.status_code < 300, answer.text
    async with client_of(rich.platform, second) as client:
        mine.client = client
        batch = await mine.ended(batch)
        assert (batch.status, batch.errors.data[0].code) == ("failed", "key_revoked")
        assert len(await mine.results(batch)) == batch.request_counts.completed == len(rich.jobs())
    with psycopg.connect(database.admin_url) as admin:
        assert admin.execute("SELECT credential FROM serve_app.batch").fetchall() == [(None,)]


async def test_the_credential_is_kept_sealed(batches, database, platform):
    await batches.create(line("a"))
    with psycopg.connect(database.admin_url) as admin:
        (sealed,) = admin.execute("SELECT credential FROM serve_app.batch").fetchone()
    assert platform.key.encode() not in bytes(sealed)


async def test_a_batch_whose_seal_cannot_be_opened_fails_and_says_so(batches, database):
    batch = await batches.create(line("a"))
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE serve_app.batch SET credential = set_byte(credential, 20, get_byte(credential, 20) # 1)")
    await batches.run()
    batch = await batches.ended(batch)
    assert (batch.status, batch.errors.data[0].code) == ("failed", "credential_lost")


# --- whose ------------------------------------------------------------------------------------------------------------------------------


async def test_other_peoples_files_and_batches_are_not_there(batches, platform):
    batch = await batches.create(line("a"))
    stranger = await (await somebody(platform.ledger, "eve")).key()
    async with client_of(platform, stranger) as client:
        for call in (
            client.files.retrieve(batch.input_file_id),
            client.files.content(batch.input_file_id),
            client.files.delete(batch.input_file_id),
            client.batches.retrieve(batch.id),
            client.batches.cancel(batch.id),
            client.batches.create(input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"),
            client.batches.retrieve("batch_nonsense"),
            client.files.retrieve("file-nonsense"),
        ):
            with pytest.raises(openai.NotFoundError):
                await call
        assert [one async for one in client.files.list()] == [one async for one in client.batches.list()] == []
    assert await batches.state(batch) == "validating"


async def test_nobody_without_a_key_gets_in(batches, platform):
    batch = await batches.create(line("a"))
    async with client_of(platform, "gfe_live_nobody") as client:
        for call in (
            client.files.list(),
            client.batches.list(),
            client.batches.retrieve(batch.id),
            client.files.content(batch.input_file_id),
        ):
            with pytest.raises(openai.AuthenticationError):
                await call
        with pytest.raises(openai.AuthenticationError):
            await client.files.create(file=("a", b"{}"), purpose="batch")


async def test_a_sign_in_is_not_enough_for_a_day(batches, platform):
    person = await somebody(platform.ledger, "ada")
    async with client_of(platform, person.tokens["access"]) as client:
        with pytest.raises(openai.BadRequestError, match="API key"):
            await batches.create(line("a"), client=client)

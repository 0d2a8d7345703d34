"""Files and batches through the `openai` package for Python."""

import asyncio
import contextlib
import hashlib
import json
from datetime import UTC, datetime, timedelta

import openai
import psycopg
import pytest

from ledger.client import new_uuid7, text_of, uuid_of
from serve_app.asking import job_request_of
from serve_app.batches import line_run
from serve_app.batches import runner as runner_module
from serve_app.batches.lines import request_key
from serve_app.batches.runner import BatchRunner
from serve_app.db import DatabaseUnavailable
from serve_app.store.batches import BatchStore
from serve_app.store.files import FileStore
from tests.clients.conftest import said
from tests.cluster.waiting import until
from tests.ledger.people import somebody
from tests.serve_app.drivers import close_driver, start_driver

CHAT = "/v1/chat/completions"


def line(custom_id, url=CHAT, method="POST", body=None, **more):
    body = body or {"model": "fake:words=3", "messages": [{"role": "user", "content": f"hello {custom_id}"}], **more}
    return {"custom_id": custom_id, "method": method, "url": url, "body": body}


def jsonl(*lines):
    return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines).encode()


def read(text):
    return [json.loads(one) for one in text.splitlines()]


class Clock:
    def __init__(self):
        self.ahead = timedelta()

    def __call__(self):
        return datetime.now(UTC) + self.ahead


class Batches:
    """Batches as their consumer sees them, and the replicas that run them."""

    def __init__(self, client, platform, database):
        self.client, self.platform, self.database = client, platform, database
        self.clock = Clock()
        self.stack = contextlib.AsyncExitStack()

    async def create(self, *lines, endpoint=CHAT, client=None, **more):
        client = client or self.client
        file = await client.files.create(file=("input.jsonl", jsonl(*lines)), purpose="batch")
        return await client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **more)

    async def state(self, batch):
        return (await self.client.batches.retrieve(batch.id)).status

    async def ended(self, batch, *states, limit_s=60):
        async with asyncio.timeout(limit_s):
            while (found := await self.client.batches.retrieve(batch.id)).status not in (
                states or ("completed", "failed", "expired", "cancelled")
            ):
                await asyncio.sleep(0.05)
        return found

    async def run(self, driver=None):
        """Start a replica's runner; answers how to lose it."""
        context = driver.context if driver else self.platform.context
        url = self.database.serve_url
        batches, files = BatchStore(url), FileStore(url)
        runner = BatchRunner(context, batches, files, look_s=0.05, renew_s=0.1, now=self.clock)
        task = asyncio.create_task(runner.run())

        async def stop():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await batches.aclose()
            await files.aclose()

        self.stack.push_async_callback(stop)
        return runner, task

    async def results(self, batch):
        return read((await self.client.files.content(batch.output_file_id)).text) if batch.output_file_id else []

    async def errors(self, batch):
        return read((await self.client.files.content(batch.error_file_id)).text) if batch.error_file_id else []

    def begun(self):
        with psycopg.connect(self.database.admin_url) as admin:
            return admin.execute("SELECT count(job_id) FROM serve_app.batch_line").fetchone()[0]

    def jobs(self):
        with psycopg.connect(self.database.admin_url) as admin:
            return admin.execute("SELECT id, state, is_sync FROM serve_app.job").fetchall()


@pytest.fixture(autouse=True)
def unknown_models_are_not_waited_for(monkeypatch):
    monkeypatch.setattr(line_run, "MODEL_WAIT_S", 0)


@pytest.fixture
async def client(platform):
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0) as client:
        yield client


@pytest.fixture
async def batches(client, platform, database):
    found = Batches(client, platform, database)
    async with found.stack:
        yield found


@pytest.fixture
async def rich(platform_with, database):
    """A platform whose first consumer has money for 200 lines."""
    platform = await platform_with(credits="500.00", slots=4)
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0) as client:
        found = Batches(client, platform, database)
        async with found.stack:
            yield found


# --- files ------------------------------------------------------------------------------------------------------------------------------


async def test_a_file_is_kept_byte_for_byte(client):
    content = b'{"a": 1}\r\n\n' + '{"b": "ü"}'.encode() + b"\xff" * 3
    made = await client.files.create(file=("my input.jsonl", content), purpose="batch")
    assert (made.filename, made.bytes, made.purpose, made.object) == ("my input.jsonl", len(content), "batch", "file")
    assert (await client.files.content(made.id)).content == content
    assert await client.files.retrieve(made.id) == made
    assert [one.id async for one in client.files.list(purpose="batch")] == [made.id]
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(made.id)


async def test_files_are_listed_page_by_page(client):
    made = [await client.files.create(file=(f"{n}.jsonl", b"{}"), purpose="batch") for n in range(5)]
    assert [one.id async for one in client.files.list(limit=2)] == [one.id for one in reversed(made)]
    assert [one.id async for one in client.files.list(purpose="assistants\x00")] == []
    assert [one.id async for one in client.files.list(limit=2, order="asc")] == [one.id for one in made]


async def test_a_file_of_another_purpose_is_refused(client, database):
    with pytest.raises(openai.BadRequestError, match="purpose"):
        await client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")
    await until(lambda: _count(database, "file") == 0)


def _count(database, table):
    with psycopg.connect(database.admin_url) as admin:
        return admin.execute(f"SELECT count(*) FROM serve_app.{table}").fetchone()[0]


async def test_files_have_limits(client, monkeypatch, database):
    from serve_app.api import files
    from serve_app.store import files as kept

    monkeypatch.setattr(files, "MAX_LINES", 3)
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 250)

    async def upload(content):
        return await client.files.create(file=("a.jsonl", content), purpose="batch")

    with pytest.raises(openai.BadRequestError, match="more than 3 lines"):
        await upload(b"{}\n" * 4)
    with pytest.raises(openai.BadRequestError, match="Line 2 is longer than 100 bytes"):
        await upload(b"{}\n" + b"x" * 101)
    with pytest.raises(openai.APIStatusError) as refused:
        await upload(b"x" * 251)
    assert refused.value.status_code == 413
    await until(lambda: _count(database, "file") == 0)
    monkeypatch.setattr(kept, "MAX_FILES", 1)
    made = await upload(b"{}")
    with pytest.raises(openai.APIStatusError, match="Delete what you do not need"):
        await upload(b"{}")
    await client.files.delete(made.id)
    monkeypatch.setattr(kept, "MAX_ACCOUNT_BYTES", 10)
    with pytest.raises(openai.APIStatusError, match="Delete what you do not need"):
        await upload(b"{}")


async def test_files_and_broken_uploads_go_when_their_time_is_over(client, platform, database):
    made = await client.files.create(file=("a.jsonl", b"{}"), purpose="batch")
    now = datetime.now(UTC)
    await platform.context.files.begin(new_uuid7(), "user_somebody", 10, now)
    assert await platform.context.files.sweep(now) == 0
    assert await platform.context.files.sweep(now + timedelta(hours=2)) == 1
    assert (await client.files.retrieve(made.id)).id == made.id
    assert await platform.context.files.sweep(now + timedelta(days=31)) == 1
    assert (_count(database, "file"), _count(database, "file_line")) == (0, 0)


# --- batches ----------------------------------------------------------------------------------------------------------------------------


async def test_a_batch_of_200_lines_is_answered_in_order_with_one_cost_per_line(rich, database):
    lines = [line(f"r{n}") for n in range(200)]
    lines[20] = "this is not JSON"
    lines[40] = line("r39")
    lines[60] = line("r60", url="/v1/embeddings")
    lines[80] = line("r80", body={"model": "nothing", "messages": [{"role": "user", "content": "x"}]})
    lines[100] = line("r100", body={"model": "fake:words=3", "messages": []})
    lines[120] = line("r120", body={"model": "fake:500", "messages": [{"role": "user", "content": "x"}]})
    lines[140] = line("r140", stream=True)
    bad = {20, 40, 60, 80, 100, 120, 140}
    batch = await rich.create(*lines, metadata={"name": "nightly"})
    assert (batch.status, batch.metadata) == ("validating", {"name": "nightly"})
    await rich.run()
    batch = await rich.ended(batch)
    assert (batch.status, batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (
        "completed",
        200,
        193,
        7,
    )
    assert batch.in_progress_at
    assert batch.finalizing_at
    assert batch.completed_at
    results = await rich.results(batch)
    assert [one["custom_id"] for one in results] == [f"r{n}" for n in range(200) if n not in bad]
    for one in results:
        body = one["response"]["body"]
        assert (one["error"], one["response"]["status_code"], body["usage"]["cost"]) == (None, 200, "0.50")
        assert body["choices"][0]["message"]["content"] == said(3, f"hello {one['custom_id']}")
    assert len({one["response"]["request_id"] for one in results}) == 193
    errors = await rich.errors(batch)
    assert [(one["error"]["code"], one["error"]["line"], one["custom_id"]) for one in errors[:3]] == [
        ("invalid_json_line", 21, None),
        ("duplicate_custom_id", 41, "r39"),
        ("mismatched_url", 61, None),
    ]
    assert [(one["custom_id"], one["response"]["status_code"]) for one in errors[3:]] == [
        ("r80", 404),
        ("r100", 400),
        ("r120", 502),
        ("r140", 400),
    ]
    assert [one.line for one in batch.errors.data] == [21, 41, 61]
    assert await rich.platform.settled() == "403.50"
    jobs = rich.jobs()
    assert {is_sync for _, _, is_sync in jobs} == {False}
    assert len(jobs) == 194, "one per line that could be run, and the one of the model that fails"
    assert _count(database, "batch_line") == 0


async def test_a_failed_line_has_the_error_that_the_route_gives(batches, client):
    body = {"model": "nothing", "messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(openai.NotFoundError) as refused:
        await client.chat.completions.create(**body)
    await batches.run()
    batch = await batches.ended(await batches.create(line("a", body=body)))
    (failed,) = await batches.errors(batch)
    assert failed["response"]["body"] == refused.value.response.json()
    assert batch.output_file_id is None


@pytest.mark.parametrize(
    ("endpoint", "body", "told"),
    [
        ("/v1/completions", {"model": "fake:words=3", "prompt": "hello there"}, lambda said_: said_["choices"][0]["text"]),
        ("/v1/responses", {"model": "fake:words=3", "input": "hello there"}, lambda said_: said_["output"][0]["content"][0]["text"]),
        ("/v1/embeddings", {"model": "fake:embeds", "input": "hello there"}, lambda said_: len(said_["data"][0]["embedding"])),
    ],
)
async def test_every_endpoint_answers_in_its_own_words(batches, endpoint, body, told):
    await batches.run()
    batch = await batches.ended(await batches.create(line("a", url=endpoint, body=body), endpoint=endpoint))
    (result,) = await batches.results(batch)
    assert told(result["response"]["body"]) == (576 if endpoint == "/v1/embeddings" else said(3))
    assert result["response"]["body"]["usage"]["cost"] == "0.50"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ((), "empty_file"),
        (("nonsense", "more"), "invalid_json_line"),
        ((line("a", method="GET"),), "invalid_method"),
        (({"custom_id": "\ud800", "method": "POST", "url": CHAT, "body": {}},), "invalid_custom_id"),
        (({"custom_id": "a\x00", "method": "POST", "url": CHAT, "body": {}},), "invalid_custom_id"),
        (({"custom_id": "", "method": "POST", "url": CHAT, "body": {}},), "invalid_custom_id"),
        (({"custom_id": "a", "method": "POST", "url": CHAT, "body": []},), "invalid_body"),
    ],
)
async def test_a_batch_none_of_whose_lines_can_be_read_fails(batches, content, code):
    await batches.run()
    batch = await batches.ended(await batches.create(*content))
    assert (batch.status, batch.errors.data[0].code, batch.in_progress_at) == ("failed", code, None)
    assert batch.request_counts.total == batch.request_counts.failed == len(content)


async def test_only_a_few_lines_are_under_way_at_once(platform_with, database):
    platform = await platform_with(slots=4)
    platform.context.settings = platform.settings.model_copy(update={"batch_lines_in_flight": 2})
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0) as client:
        batches = Batches(client, platform, database)
        async with batches.stack:
            await batches.run()
            made = [await batches.create(*(line(f"{n}", model="fake:long=200@0.01", max_tokens=20) for n in range(4))) for _ in range(2)]
            most = 0
            while {await batches.state(one) for one in made} != {"completed"}:
                most = max(most, platform.workers[0].node.running)
    assert most == 2


async def test_what_finds_no_room_is_tried_again(platform_with, database, monkeypatch):
    monkeypatch.setattr(runner_module, "LONGEST_PAUSE_S", 0.1)
    platform = await platform_with(slots=4, ledger_settings={"open_jobs": 1, "submits_per_minute": 1000})
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0) as client:
        batches = Batches(client, platform, database)
        async with batches.stack:
            await batches.run()
            batch = await batches.ended(await batches.create(line("a"), line("b"), line("c")))
            assert [one["custom_id"] for one in await batches.results(batch)] == ["a", "b", "c"]
            assert await platform.settled() == "8.50"


async def test_a_model_that_is_away_for_a_while_is_waited_for(batches, platform, monkeypatch):
    monkeypatch.setattr(line_run, "MODEL_WAIT_S", 60)
    monkeypatch.setattr(runner_module, "LONGEST_PAUSE_S", 0.05)
    workers, platform.context.view.workers = platform.context.view.workers, []
    batch = await batches.create(*(line(f"r{n}") for n in range(6)))
    await batches.run()
    batch = await batches.ended(batch, "in_progress")
    looks = []
    monkeypatch.setattr(line_run, "job_request_of", lambda *args, **more: looks.append(1) or job_request_of(*args, **more))
    await until(lambda: len(looks) > 8)
    platform.context.view.workers = workers
    batch = await batches.ended(batch, "completed")
    assert (batch.request_counts.completed, batch.request_counts.failed) == (6, 0)


async def test_lines_for_which_there_is_no_money_fail_and_the_others_are_paid(platform_with, database):
    platform = await platform_with(credits="1.20")
    platform.context.settings = platform.settings.model_copy(update={"batch_lines_in_flight": 1})
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0) as client:
        batches = Batches(client, platform, database)
        async with batches.stack:
            await batches.run()
            batch = await batches.ended(await batches.create(line("a"), line("b"), line("c")))
            assert (batch.status, batch.request_counts.completed) == ("completed", 2)
            (failed,) = await batches.errors(batch)
            assert (failed["response"]["status_code"], failed["response"]["body"]["error"]["available"]) == (402, "0.20")


# --- losses -----------------------------------------------------------------------------------------------------------------------------


def lose_leases(database):
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute("UPDATE serve_app.batch SET lease_until = clock_timestamp() - interval '1 s' WHERE ended_at IS NULL")


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
    from serve_app import sweeper

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
    async with openai.AsyncOpenAI(base_url=f"{rich.platform.url}/v1", api_key=key, max_retries=0) as client:
        mine = Batches(client, rich.platform, database)
        batch = await mine.create(*(line(f"r{n}", model="fake:long=200@0.01", max_tokens=20) for n in range(100)))
        second = await person.key()
        await rich.run()
        await until(lambda: len(rich.jobs()) > 8)
        row = next(row for row in (await person.get("/api/core/keys/")).json()["results"] if row["id"] in key)
        answer = await person.call("DELETE", f"/api/core/keys/{row['id']}/")
        assert answer.status_code < 300, answer.text
    async with openai.AsyncOpenAI(base_url=f"{rich.platform.url}/v1", api_key=second, max_retries=0) as client:
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
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=stranger, max_retries=0) as client:
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
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key="gfe_live_nobody", max_retries=0) as client:
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
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=person.tokens["access"], max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match="API key"):
            await batches.create(line("a"), client=client)


# --- asking -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"input_file_id": 7}, "input_file_id"),
    ],
)
async def test_what_a_batch_must_be(client, change, says):
    file = await client.files.create(file=("a.jsonl", b"{}"), purpose="batch")
    with pytest.raises(openai.BadRequestError, match=says):
        await client.batches.create(**({"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"} | change))


async def test_a_file_that_a_batch_reads_stays(batches):
    batch = await batches.create(line("a"))
    with pytest.raises(openai.ConflictError, match="still reads"):
        await batches.client.files.delete(batch.input_file_id)
    await batches.run()
    batch = await batches.ended(batch)
    await batches.client.files.delete(batch.input_file_id)
    assert (await batches.results(batch))[0]["custom_id"] == "a"


async def test_a_repeated_request_makes_one_batch(batches, client):
    file = await client.files.create(file=("a.jsonl", jsonl(line("a"))), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h", "extra_headers": {"Idempotency-Key": "once"}}
    made = await asyncio.gather(*(client.batches.create(**asked) for _ in range(3)))
    assert len({one.id for one in made}) == 1
    assert [one.id async for one in client.batches.list()] == [made[0].id]
    with pytest.raises(openai.UnprocessableEntityError):
        await client.batches.create(**(asked | {"metadata": {"a": "b"}}))


async def test_an_account_has_so_many_batches_under_way(batches, client, monkeypatch):
    from serve_app.store import batches as kept

    monkeypatch.setattr(kept, "CREATE", kept.CREATE.replace(f"< {kept.MAX_UNDER_WAY}", "< 2"))
    first = await batches.create(line("a"))
    await batches.create(line("a"))
    with pytest.raises(openai.RateLimitError, match="under way"):
        await batches.create(line("a"))
    await client.batches.cancel(first.id)
    await batches.run()
    await batches.ended(first)
    await batches.create(line("a"))
    assert [one.id async for one in client.batches.list(limit=1)][-1] == first.id


async def test_one_account_does_not_keep_the_others_batches_from_being_run(batches, platform):
    mine = [await batches.create(line("a")) for _ in range(3)]
    stranger = await (await somebody(platform.ledger, "eve")).key()
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=stranger, max_retries=0) as client:
        theirs = await batches.create(line("a"), client=client)
    claimed = [await platform.context.batches.claim(f"runner-{n}", []) for n in range(4)]
    assert [one and text_of("batch", one.id) for one in claimed] == [mine[0].id, mine[1].id, theirs.id, None]
    await platform.context.batches.release("runner-0")
    assert (await platform.context.batches.claim("runner-5", [])).id == claimed[0].id


async def test_old_batches_are_forgotten(batches, platform, database):
    await batches.run()
    await batches.ended(await batches.create(line("a")))
    now = datetime.now(UTC)
    assert await platform.context.batches.sweep(now + timedelta(days=29)) == 0
    assert await platform.context.batches.sweep(now + timedelta(days=31)) == 1
    assert _count(database, "batch") == 0

"""Batches through the `openai` package for Python: answers, errors, what is asked."""

import asyncio
from datetime import UTC, datetime, timedelta

import openai
import pytest

from ledger.client import text_of
from serve_app.asking import job_request_of
from serve_app.batches import line_run
from serve_app.batches import runner as runner_module
from serve_app.store import batches as kept_batches
from tests.clients.conftest import said
from tests.ledger.people import somebody
from tests.serve_app.batches.consumer import CHAT, client_of, count, jsonl, line
from tests.waiting import until


@pytest.fixture
async def client(batches):
    return batches.client


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
    assert count(database, "batch_line") == 0


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


async def test_only_a_few_lines_are_under_way_at_once(batches_with):
    batches = await batches_with({"batch_lines_in_flight": 2})
    await batches.run()
    made = [await batches.create(*(line(f"{n}", model="fake:long=200@0.01", max_tokens=20) for n in range(4))) for _ in range(2)]
    most = 0
    while {await batches.state(one) for one in made} != {"completed"}:
        most = max(most, batches.platform.workers[0].node.running)
    assert most == 2


async def test_what_finds_no_room_is_tried_again(batches_with, monkeypatch):
    monkeypatch.setattr(runner_module, "LONGEST_PAUSE_S", 0.1)
    batches = await batches_with(ledger_settings={"open_jobs": 1})
    await batches.run()
    batch = await batches.ended(await batches.create(line("a"), line("b"), line("c")))
    assert [one["custom_id"] for one in await batches.results(batch)] == ["a", "b", "c"]
    assert await batches.platform.settled() == "8.50"


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


async def test_lines_for_which_there_is_no_money_fail_and_the_others_are_paid(batches_with):
    batches = await batches_with({"batch_lines_in_flight": 1}, credits="1.20")
    await batches.run()
    batch = await batches.ended(await batches.create(line("a"), line("b"), line("c")))
    assert (batch.status, batch.request_counts.completed) == ("completed", 2)
    (failed,) = await batches.errors(batch)
    assert (failed["response"]["status_code"], failed["response"]["body"]["error"]["available"]) == (402, "0.20")


# --- asking ---------------------------------------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(kept_batches, "CREATE", kept_batches.CREATE.replace(f"< {kept_batches.MAX_UNDER_WAY}", "< 2"))
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
    async with client_of(platform, stranger) as client:
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
    assert count(database, "batch") == 0

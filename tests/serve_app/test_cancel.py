"""A job is canceled from anywhere, at any point of its way (L12, G21): the node stops, what was delivered is charged, nothing else."""

import asyncio
import json
import time
import uuid

import openai
import pytest

from cluster.jobs import Admitted, End, EndReason, Text, Usage
from ledger.client import job_id
from serve_app import canceling
from serve_app.adoption import adopt_once
from serve_app.canceling import stop_unwanted
from tests.ledger.people import somebody
from tests.scripted_runtime import words_of
from tests.serve_app.consumers import Consumer
from tests.serve_app.drivers import close_driver, events_of, expire_leases, start_driver
from tests.serve_app.test_nodes import own_node
from tests.serve_app.test_waiting import dispatched
from tests.waiting import until


def cancel(consumer, name, method="POST"):
    path = f"/api/computing/jobs/{name}/"
    return consumer.call("POST", f"{path}cancel/") if method == "POST" else consumer.call("DELETE", path)


def attempt_of(platform, name):
    return platform.workers[0]._attempts[name, 1]


async def speaks(platform, name):
    """Wait until a job has delivered something."""
    await until(lambda: (name, 1) in platform.workers[0]._attempts and attempt_of(platform, name).log.next_seq > 3)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_running_job_stops_at_its_node_and_what_was_delivered_is_charged(platform_with, method):
    """L12, S15, G21: flat and delivered tokens."""
    platform = await platform_with(ledger_settings={"completion_price": "100000.00"}, credits="500.00")
    consumer = Consumer(platform)
    name = await consumer.submitted(model="fake:drip=0.1", max_tokens=200)
    await speaks(platform, name)
    answer = await cancel(consumer, name, method)
    asked_at = time.monotonic()
    assert (answer.status_code, answer.json()["id"], answer.json()["status"]) == (202, name, "RUNNING")
    await until(lambda: not platform.workers[0].node.running and not platform.scripts[0].running)
    assert time.monotonic() - asked_at < 1, "a node stops within a second (L12)"
    row = await consumer.ended(name)
    tokens = row["usage"]["completion_tokens"]
    assert (row["status"], row["incomplete"]) == ("CANCELED", False)
    assert row["result"] == {"output": "".join(words_of("hello there", 200)[:tokens]), "error": "Canceled by the consumer."}
    assert 1 <= tokens < 200
    assert row["cost"] == f"{1 + tokens / 10:.2f}"
    assert await platform.settled() == f"{500 - 1 - tokens / 10:.2f}"


async def test_before_the_first_token_it_costs_nothing(platform):
    """S15."""
    consumer = Consumer(platform)
    name = await consumer.submitted(model="fake:hang@0")
    await consumer.reaches(name, "RUNNING")
    assert (await cancel(consumer, name)).status_code == 202
    row = await consumer.ended(name)
    assert (row["status"], row["cost"], row["result"]) == ("CANCELED", "0.00", {"error": "Canceled by the consumer."})
    assert await platform.settled() == "10.00"
    assert platform.scripts[0].running == 0


async def test_a_job_that_waits_leaves_the_queue(platform_with):
    """L12: nobody is asked for a slot that nobody wants."""
    platform = await platform_with(slots=1)
    consumer = Consumer(platform)
    async with dispatched(platform) as dispatcher:
        first = await consumer.submitted(model="fake:hang@0")
        await until(lambda: platform.workers[0].node.running == 1)
        second = await consumer.submitted(model="fake:hang@0")
        await until(lambda: dispatcher.status()["waiting"] == {"fake:hang@0": 1})
        assert (await cancel(consumer, second)).json()["status"] == "PENDING"
        await until(lambda: not dispatcher.status()["waiting"])
        row = await consumer.ended(second)
        assert (row["status"], row["cost"], row["node"]) == ("CANCELED", "0.00", None)
        assert (await consumer.job(first))["status"] == "RUNNING"
        await cancel(consumer, first)
        await consumer.ended(first)
    assert await platform.settled() == "10.00"


@pytest.mark.parametrize("model", ["fake:words=3", "fake:500"])
async def test_a_job_that_has_ended_cannot_be_canceled(platform, model):
    """L12, D27: an end state never changes."""
    consumer = Consumer(platform)
    before = await consumer.ended(await consumer.submitted(model=model))
    for method in ("POST", "DELETE"):
        answer = await cancel(consumer, before["id"], method)
        assert (answer.status_code, answer.json()["code"]) == (409, "job_ended")
    assert await consumer.job(before["id"]) == before


async def test_canceled_twice_is_canceled_once(platform):
    consumer = Consumer(platform)
    name = await consumer.submitted(model="fake:hang@2")
    await speaks(platform, name)
    answers = await asyncio.gather(*(cancel(consumer, name) for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert answers[0].status_code == 202
    assert (await consumer.ended(name))["status"] == "CANCELED"
    assert await platform.settled() == "9.00"


async def test_whether_the_end_or_the_cancel_is_first_there_is_one_end_and_one_charge(platform_with):
    """D27."""
    platform = await platform_with(slots=8, credits="100.00")
    consumer = Consumer(platform)

    async def race(n):
        name = await consumer.submitted(f"job {n}", model="fake:words=16")
        await asyncio.sleep(n / 400)
        answer = await cancel(consumer, name)
        return answer.status_code, await consumer.ended(name)

    ends = await asyncio.gather(*(race(n) for n in range(40)))
    for status, row in ends:
        assert status in {202, 409}
        assert row["status"] in {"COMPLETED", "CANCELED"}
        assert row["status"] == "COMPLETED" or status == 202
        assert row["cost"] == ("1.00" if "output" in row["result"] else "0.00")
        assert await consumer.job(row["id"]) == row
    charged = sum(row["cost"] == "1.00" for _, row in ends)
    assert await platform.settled() == f"{100 - charged}.00"


# --- its reader -----------------------------------------------------------------------------------------------------------------------------


HELLO = [{"role": "user", "content": "hello there"}]
PATHS = ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat", "/api/generate"]


async def canceled(platform, path, method="POST", *, key=None, **more):
    """Ask, cancel when something was said, and answer what the request was answered."""
    said = {"/v1/responses": {"input": "hello there"}, "/api/generate": {"prompt": "hello there"}}.get(path, {"messages": HELLO})
    body = {"model": "fake:hang@2"} | said | ({"max_tokens": 100} if path == "/v1/messages" else {}) | more
    headers = platform.bearer | ({"Idempotency-Key": key} if key else {})
    asking = asyncio.create_task(platform.http.post(path, json=body, headers=headers))
    await until(lambda: platform.workers[0].node.running)
    name = next(iter(platform.workers[0]._attempts))[0]
    await speaks(platform, name)
    assert (await cancel(Consumer(platform), name, method)).status_code == 202
    return name, await asking


def error_in(path, stream):
    """The error with which a stream ends, in the dialect's form."""
    last = stream.strip().splitlines()[-1]
    said = json.loads(last.removeprefix("data: "))
    if path == "/v1/responses":
        assert (said["type"], said["response"]["status"]) == ("response.failed", "failed")
        return said["response"]["error"]
    if path.startswith("/api/"):
        return {"code": "canceled", "message": said.pop("error"), **said}
    assert path != "/v1/messages" or (said["type"], stream.strip().splitlines()[-2]) == ("error", "event: error")
    return said["error"]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_that_is_canceled_ends_honestly(platform, path, method):
    """G21: it ends with an error that says so, not as an answer that is complete."""
    name, answer = await canceled(platform, path, method, stream=True)
    assert answer.status_code == 200
    assert words_of("hello there", 1)[0].strip() in answer.text
    error = error_in(path, answer.text)
    assert error["code"] == "canceled"
    assert f"{name} was canceled" in error["message"]
    assert path == "/v1/responses" or (error["job"], error["cost"]) == (name, "1.00")
    for ending in ("[DONE]", "message_stop", "response.completed", '"done": true', '"finish_reason": "stop"'):
        assert ending not in answer.text
    row = await Consumer(platform).ended(name)
    assert (row["status"], row["cost"]) == ("CANCELED", "1.00")


@pytest.mark.parametrize("path", PATHS)
async def test_a_plain_request_that_is_canceled_is_refused_and_not_sent_again_by_clients(platform, path):
    """499: clients send again what gets 409 or 5xx. What was said is at the job."""
    name, answer = await canceled(platform, path, stream=False)
    assert (answer.status_code, answer.headers["x-gfe-job"]) == (499, name)
    said = answer.json()
    error = {"code": "canceled", "message": said["error"], **said} if path.startswith("/api/") else said["error"]
    assert (error["code"], error["job"], error["cost"]) == ("canceled", name, "1.00")
    assert f"{name} was canceled" in error["message"]
    row = await Consumer(platform).ended(name)
    assert (row["status"], row["result"]["output"]) == ("CANCELED", "".join(words_of("hello there", 3)[:2]))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_that_is_canceled_while_it_waits_is_refused(platform_with, stream):
    platform = await platform_with(slots=1)
    consumer = Consumer(platform)
    async with dispatched(platform) as dispatcher:
        first = await consumer.submitted(model="fake:hang@0")
        await until(lambda: platform.workers[0].node.running == 1)
        asking = asyncio.create_task(platform.chat("fake:hang@0", stream=stream))
        await until(lambda: dispatcher.status()["waiting"] == {"fake:hang@0": 1})
        name = next(row["id"] for row in (await consumer.get("/api/computing/jobs/")).json()["results"] if row["id"] != first)
        await cancel(consumer, name)
        answer = await asking
        assert (answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["cost"]) == (499, "canceled", "0.00")
        await cancel(consumer, first)
        await consumer.ended(first)
    await until(lambda: not platform.context.driven)
    assert await platform.settled() == "10.00"


@pytest.mark.parametrize("stream", [True, False])
async def test_who_sends_a_canceled_request_again_is_told_the_same(platform, stream, idempotency_key):
    name, first = await canceled(platform, "/v1/chat/completions", key=idempotency_key, stream=stream)
    body = {"model": "fake:hang@2", "messages": HELLO, "stream": stream}
    again = await platform.http.post("/v1/chat/completions", json=body, headers=platform.bearer | {"Idempotency-Key": idempotency_key})
    assert again.status_code == first.status_code == (200 if stream else 499)
    errors = [error_in("/v1/chat/completions", one.text) if stream else one.json()["error"] for one in (first, again)]
    assert errors[0] == errors[1]
    assert (errors[0]["code"], errors[0]["job"]) == ("canceled", name)


async def test_openais_client_raises_when_a_stream_is_canceled(platform):
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=platform.key) as client:
        stream = await client.chat.completions.create(model="fake:hang@2", messages=HELLO, stream=True)
        async for chunk in stream:
            name = chunk.id.removeprefix("chatcmpl-")
            break
        await cancel(Consumer(platform), name)
        with pytest.raises(openai.APIError, match="was canceled") as raised:
            async for _ in stream:
                pass
    assert raised.value.code == "canceled"


async def test_who_reads_a_job_along_hears_that_it_was_canceled(platform):
    consumer = Consumer(platform)
    name = await consumer.submitted(model="fake:hang@2")
    reading = asyncio.create_task(consumer.get(f"/api/computing/jobs/{name}/stream/"))
    await speaks(platform, name)
    await cancel(consumer, name)
    events = events_of((await reading).text)
    assert (events[-1]["event"], events[-1]["status"]) == ("end", "CANCELED")


# --- wherever it is driven ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def other(platform):
    """Another replica, which drives; the platform's own is asked to cancel."""
    driver = await start_driver(platform, "driver-other")
    looking = asyncio.create_task(stop_unwanted(driver.context))
    yield driver
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await close_driver(driver)


async def started_elsewhere(platform, other, model, **more):
    from serve_app.api.jobs_dialect import job_request
    from serve_app.submission import start_job

    asked = job_request({"prompt": "hello there", "model": model, **more}, default_model="", default_max_tokens=64)
    return (await start_job(other.context, platform.key, asked)).name


async def test_a_job_that_another_replica_drives_is_canceled(platform, other):
    """L12: whichever replica drives it."""
    consumer = Consumer(platform)
    name = await started_elsewhere(platform, other, "fake:hang@2")
    await speaks(platform, name)
    assert (await cancel(consumer, name)).status_code == 202
    await until(lambda: not platform.workers[0].node.running)
    row = await consumer.ended(name)
    assert (row["status"], row["cost"], row["result"]["error"]) == ("CANCELED", "1.00", "Canceled by the consumer.")


async def test_a_job_that_waits_at_another_replica_is_canceled_by_its_mark(platform_with):
    platform = await platform_with(slots=1)
    other, consumer = await start_driver(platform, "driver-other"), Consumer(platform)
    looking = asyncio.create_task(stop_unwanted(other.context))
    first = await consumer.submitted(model="fake:hang@0")
    await consumer.reaches(first, "RUNNING")
    name = await started_elsewhere(platform, other, "fake:hang@0")
    assert (await cancel(consumer, name)).status_code == 202
    row = await consumer.ended(name)
    assert (row["status"], row["cost"]) == ("CANCELED", "0.00")
    looking.cancel()
    await cancel(consumer, first)
    await consumer.ended(first)
    await close_driver(other)


async def test_the_mark_alone_stops_what_runs_when_the_node_did_not_hear_the_first_word(platform, other):
    consumer = Consumer(platform)
    name = await started_elsewhere(platform, other, "fake:hang@2")
    await speaks(platform, name)
    heard, platform.context.nodes.cancel = platform.context.nodes.cancel, _deaf
    assert (await cancel(consumer, name)).status_code == 202
    await until(lambda: not platform.workers[0].node.running)
    assert (await consumer.ended(name))["status"] == "CANCELED"
    platform.context.nodes.cancel = heard


async def _deaf(url, job, number):
    pass


async def test_a_job_that_is_taken_over_after_its_mark_ends_canceled(platform, database):
    """The replica that was to see the mark dies first."""
    lost, heir, consumer = await start_driver(platform, "driver-lost"), await start_driver(platform, "driver-heir"), Consumer(platform)
    looking = asyncio.create_task(stop_unwanted(heir.context))
    name = await started_elsewhere(platform, lost, "fake:hang@2")
    await speaks(platform, name)
    await lost.die()
    heard, platform.context.nodes.cancel = platform.context.nodes.cancel, _deaf
    assert (await cancel(consumer, name)).status_code == 202
    platform.context.nodes.cancel = heard
    expire_leases(database)
    assert await adopt_once(heir.context, heir.context.store) == 1
    row = await consumer.ended(name)
    assert (row["status"], row["cost"]) == ("CANCELED", "1.00")
    looking.cancel()
    await close_driver(heir)


async def test_who_drives_nothing_asks_the_database_nothing(platform, monkeypatch):
    monkeypatch.setattr(canceling, "LOOK_S", 0.01)
    asked = []

    async def wanted(driver):
        asked.append(driver)
        return []

    platform.context.cancels.wanted = wanted
    looking = asyncio.create_task(stop_unwanted(platform.context))
    await asyncio.sleep(0.1)
    assert not asked
    consumer = Consumer(platform)
    name = await consumer.submitted(model="fake:hang@0")
    await until(lambda: asked)
    del platform.context.cancels.wanted
    await cancel(consumer, name)
    await consumer.ended(name)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


def breaking_off_once(real, words):
    """A node that says `canceled` of its own accord, after so many words; the next attempt is a good one."""
    tries = []

    async def run(url, attempt):
        tries.append(attempt.node)
        said = [Admitted(seq=0, node=attempt.node), *(Text(seq=1 + n, content=word, tokens=1) for n, word in enumerate(words))]
        usage = Usage(prompt_tokens=1, completion_tokens=len(words), counted_by="provider")
        if len(tries) == 1:
            for event in (*said, End(seq=len(said), reason=EndReason.CANCELED, usage=usage)):
                yield event
        else:
            async for event in real(url, attempt):
                yield event

    return run


async def test_a_node_that_calls_a_job_canceled_by_itself_is_lost_to_it(platform_with, database, monkeypatch):
    """S15, S21: another one serves it."""
    platform = await platform_with(nodes=2)
    await own_node(platform, database, (await somebody(platform.ledger, "owner")).headers, "node_1", kind="trusted")
    monkeypatch.setattr(platform.context.nodes, "run", breaking_off_once(platform.context.nodes.run, []))
    consumer = Consumer(platform)
    row = await consumer.ended(await consumer.submitted())
    assert (row["status"], row["attempts"], row["cost"]) == ("COMPLETED", 2, "1.00")


async def test_nobody_pays_the_flat_price_for_a_job_that_its_node_broke_off(platform, monkeypatch):
    """S15: after the first token it is incomplete, and only what was delivered is charged."""
    monkeypatch.setattr(platform.context.nodes, "run", breaking_off_once(platform.context.nodes.run, ["half"]))
    consumer = Consumer(platform)
    row = await consumer.ended(await consumer.submitted())
    assert (row["status"], row["incomplete"], row["cost"], row["result"]["output"]) == ("FAILED", True, "0.00", "half")
    assert await platform.settled() == "10.00"


# --- whose it is ----------------------------------------------------------------------------------------------------------------------------


async def test_nobody_cancels_anothers_job(platform):
    """G18."""
    consumer, ada = Consumer(platform), Consumer(platform, (await somebody(platform.ledger)).headers)
    name = await consumer.submitted(model="fake:hang@0")
    for method in ("POST", "DELETE"):
        answer = await cancel(ada, name, method)
        assert (answer.status_code, answer.json()["detail"]) == (403, "Unauthorized")
    unknown = job_id(uuid.uuid4())
    for method in ("POST", "DELETE"):
        answer = await cancel(consumer, unknown, method)
        assert (answer.status_code, answer.json()["detail"]) == (404, "No Job matches the given query.")
    assert (await consumer.job(name))["status"] in {"PENDING", "RUNNING"}
    await cancel(consumer, name)
    await consumer.ended(name)

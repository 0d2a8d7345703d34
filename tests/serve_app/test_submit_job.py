"""Jobs that run by themselves (S14, S15, D25): what is held, refused, repeated, waited for and charged."""

import asyncio
import json

import pytest

from cluster.limits import Limits
from cluster.nodes import NodeKind
from serve_app.store.jobs import JobStore
from tests.ledger.people import bearer, somebody
from tests.scripted_runtime import words_of
from tests.serve_app.consumers import SUBMIT, Consumer, anonymous, keyed
from tests.serve_app.test_nodes import own_node
from tests.waiting import until


@pytest.fixture
async def consumer(platform):
    return Consumer(platform)


async def test_a_job_is_taken_at_once_and_runs_by_itself(platform, consumer):
    """S14, S15, S18, G5."""
    answer = await consumer.submit("hello there")
    said = answer.json()
    assert (answer.status_code, said["status"], said["held"]) == (201, "submitted", "1.00")
    assert answer.headers["location"] == f"/api/computing/jobs/{said['job_id']}/"
    assert set(said) == {"status", "job_id", "held"}
    row = await consumer.ended(said["job_id"])
    assert (row["status"], row["cost"], row["prompt"]) == ("COMPLETED", "1.00", "hello there")
    assert row["result"] == {"output": "".join(words_of("hello there", 3))}
    assert row["node"]["id"] == "node_local"
    assert row["usage"]["completion_tokens"] == 3
    assert await platform.settled() == "9.00"


async def test_the_credit_is_held_at_once_and_the_job_is_among_the_open_ones(platform, consumer):
    """G5."""
    name = await consumer.submitted(model="fake:hang@2")
    wallet = await platform.wallet()
    assert (wallet["balance"], wallet["held"], wallet["total"]) == ("9.00", "1.00", "10.00")
    await consumer.reaches(name, "RUNNING")
    assert [row["id"] for row in (await consumer.jobs(status="RUNNING"))["results"]] == [name]
    await consumer.call("DELETE", f"/api/computing/jobs/{name}/")


async def test_a_job_goes_from_pending_over_running_to_completed(platform_with):
    """S17, G8."""
    platform = await platform_with(slots=1)
    consumer = Consumer(platform)
    first = await consumer.submitted(model="fake:long=200@0.01", max_tokens=40)
    second = await consumer.submitted(model="fake:long=200@0.01", max_tokens=40)
    await consumer.reaches(first, "RUNNING")
    assert (await consumer.job(second))["status"] == "PENDING"
    assert (await consumer.job(second))["node"] is None
    await consumer.reaches(second, "RUNNING")
    row = await consumer.ended(second)
    assert row["status"] == "COMPLETED"
    assert row["created_at"] < row["started_at"] < row["completed_at"]


async def test_without_a_model_the_usual_one_is_used(platform, consumer):
    answer = await consumer.call("POST", SUBMIT, json={"prompt": "hello"})
    assert (await consumer.ended(answer.json()["job_id"]))["model"] == platform.settings.default_model


async def test_a_system_text_goes_before_the_prompt_and_is_shown_to_its_owner(platform, consumer):
    """F5."""
    name = await consumer.submitted("hi", max_tokens=2, system="Answer like a pirate.")
    row = await consumer.ended(name)
    assert platform.scripts[0].requests[-1]["messages"] == [
        {"role": "system", "content": "Answer like a pirate."},
        {"role": "user", "content": "hi"},
    ]
    assert (row["prompt"], row["system"]) == ("hi", "Answer like a pirate.")
    plain = await consumer.ended(await consumer.submitted("hi", max_tokens=2, system=" "))
    assert plain["system"] is None
    wrong = await consumer.submit("hi", system=5)
    assert (wrong.status_code, wrong.json()["errors"]) == (400, {"system": ["Not a valid string."]})


async def test_options_reach_the_runtime_and_nothing_else_does(platform, consumer):
    options = {"temperature": 0, "top_p": 0.5, "seed": 7, "stop": ["x"]}
    await consumer.ended(await consumer.submitted("hi", max_tokens=2, options=options))
    asked = platform.scripts[0].requests[-1]
    assert asked["options"] | options == asked["options"]
    assert asked["options"]["num_predict"] == 2
    assert asked["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        ({"prompt": None}, "prompt", "Prompt is required"),
        ({"prompt": ""}, "prompt", "Prompt is required"),
        ({"prompt": " \n\t"}, "prompt", "Prompt is required"),
        ({"prompt": 123}, "prompt", "Not a valid string."),
        ({"prompt": ["hi"]}, "prompt", "Not a valid string."),
        ({"prompt": "\ud800"}, "prompt", "Not a valid string."),
        ({"model": "fake:nosuch"}, "model", 'Model "fake:nosuch" is not offered.'),
        ({"model": 7}, "model", "`model` must be a string."),
        ({"model": "x\0y"}, "model", "`model` is not a name."),
        ({"model": "\udc00"}, "model", "`model` is not a name."),
        ({"provider": "nobody"}, "provider", 'Provider "nobody" is not known.'),
        ({"provider": 1}, "provider", "`provider` must be a string."),
        ({"max_tokens": 0}, "max_tokens", "`max_tokens`"),
        ({"max_tokens": 1.5}, "max_tokens", "`max_tokens`"),
        ({"max_tokens": 999_999}, "max_tokens", "the model's context has"),
        ({"options": []}, "options", "`options` must be an object."),
        ({"options": {"num_ctx": 1}}, "options.num_ctx", "Unknown field."),
        ({"options": {"keep_alive": "1h"}}, "options.keep_alive", "Unknown field."),
        ({"options": {"temperature": 3}}, "options.temperature", "`temperature`"),
        ({"options": {"stop": [1]}}, "options.stop", "`stop`"),
        ({"raw": True}, "raw", "Unknown field."),
        ({"task_type": "inference"}, "task_type", "Unknown field."),
        ({"\ud800": 1}, "\ud800", "Unknown field."),
    ],
)
async def test_a_wrong_field_is_named_and_costs_nothing(platform, consumer, change, field, text):
    """S14, G7, D21."""
    answer = await consumer.call("POST", SUBMIT, content=json.dumps({"prompt": "hi", "model": "fake:words=3"} | change))
    said = answer.json()
    assert (answer.status_code, said["status"], said["code"]) == (400, 400, "invalid_request")
    assert answer.headers["content-type"] == "application/problem+json"
    assert text in said["detail"]
    assert said["error"] == said["detail"]
    assert said["errors"] == {field: [said["detail"]]}
    assert (await platform.wallet())["held"] == "0.00"
    assert (await consumer.jobs())["results"] == []


async def test_what_is_refused_first_is_who_calls_then_the_body_then_its_fields_then_money(platform_with):
    """S14: the order of the checks."""
    platform = await platform_with(credits="0.50")
    wrong = {"prompt": "", "model": "fake:words=3"}
    stranger, poor = anonymous(platform), Consumer(platform)
    unknown = Consumer(platform, bearer("a.b.c"))
    big = b'{"prompt":"' + b"x" * (1024 * 1024 + 1) + b'"}'
    no_key = await stranger.call("POST", SUBMIT, content=big)
    assert (no_key.status_code, no_key.json()["detail"]) == (401, "Authentication credentials were not provided.")
    assert no_key.headers["www-authenticate"] == "Bearer"
    bad = await unknown.call("POST", SUBMIT, json=wrong)
    assert (bad.status_code, bad.json()["detail"], bad.json()["code"]) == (
        401,
        "Given token not valid for any token type",
        "token_not_valid",
    )
    assert (await poor.call("POST", SUBMIT, content=big)).status_code == 413
    assert (await poor.call("POST", SUBMIT, content=b"{")).status_code == 400
    assert (await poor.call("POST", SUBMIT, json=wrong)).status_code == 400
    answer = await poor.submit()
    said = answer.json()
    assert (answer.status_code, said["detail"].startswith("Insufficient funds")) == (402, True)
    assert (said["available"], said["required"]) == ("0.50", "1.00")


async def test_without_credit_there_is_neither_job_nor_hold(platform_with):
    """G6."""
    platform = await platform_with(credits="0.00")
    consumer = Consumer(platform)
    answer = await consumer.submit()
    assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_funds")
    assert (await consumer.jobs())["results"] == []
    assert (await platform.wallet())["holds"] == []


async def test_too_many_open_jobs_are_refused_with_when_to_come_back(platform_with):
    """S32's limit at S14."""
    platform = await platform_with(ledger_settings={"open_jobs": 2})
    consumer = Consumer(platform)
    names = [await consumer.submitted(model="fake:hang@0") for _ in range(2)]
    answer = await consumer.submit()
    assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (429, True)
    for name in names:
        await consumer.call("DELETE", f"/api/computing/jobs/{name}/")


async def test_when_the_ledger_or_the_database_is_silent_nothing_is_taken(platform, consumer, monkeypatch):
    """S14: 503 with Retry-After, and no hold is left behind."""
    from ledger.client import LedgerUnavailable
    from serve_app.db import DatabaseUnavailable

    async def no_hold(operation):
        raise LedgerUnavailable

    async def no_row(row):
        raise DatabaseUnavailable(1)

    with monkeypatch.context() as silent:
        silent.setattr(platform.context.ledger, "place_hold", no_hold)
        assert (await consumer.submit()).status_code == 503
    with monkeypatch.context() as silent:
        silent.setattr(platform.context.writer, "create", no_row)
        answer = await consumer.submit()
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert await platform.settled() == "10.00"


async def test_a_full_queue_is_told_before_anything_is_held(platform, consumer, monkeypatch):
    """S14."""
    from serve_app import submission

    monkeypatch.setattr(submission, "MOST_WAITING", 0)
    answer = await consumer.submit()
    assert (answer.status_code, answer.json()["code"], "retry-after" in answer.headers) == (503, "queue_full", True)
    assert (await platform.wallet())["held"] == "0.00"


# --- repeats ------------------------------------------------------------------------------------------------------------------------------


async def test_a_repeat_with_the_same_key_is_the_same_job(platform, consumer):
    """Section 0, Idempotency: same status and body, and it says so."""
    first = await consumer.submit(headers={"Idempotency-Key": "once"})
    again = await consumer.submit(headers={"Idempotency-Key": "once"})
    await consumer.ended(first.json()["job_id"])
    at_last = await consumer.submit(headers={"Idempotency-Key": "once"})
    for repeat in (again, at_last):
        assert (repeat.status_code, repeat.json(), repeat.headers["location"]) == (201, first.json(), first.headers["location"])
        assert repeat.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert await platform.settled() == "9.00"


async def test_twenty_repeats_at_once_are_one_job_and_one_charge(platform, consumer):
    answers = await asyncio.gather(*(consumer.submit(headers={"Idempotency-Key": "twenty"}) for _ in range(20)))
    taken = [answer for answer in answers if answer.status_code == 201]
    assert taken
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["job_id"] for answer in taken}) == 1
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 409)
    await consumer.ended(taken[0].json()["job_id"])
    assert await platform.settled() == "9.00"
    assert len((await consumer.jobs())["results"]) == 1


async def test_the_same_key_for_another_body_is_refused(platform, consumer):
    await consumer.submit("one", headers={"Idempotency-Key": "k"})
    answer = await consumer.submit("two", headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_conflict")


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_that_is_none_is_refused(consumer, key):
    assert (await consumer.submit(headers={"Idempotency-Key": key})).status_code == 400


async def test_after_a_failure_of_ours_the_same_key_is_a_new_try(platform_with):
    """Issue, Safety of repeats."""
    platform = await platform_with(limits=Limits(first_token_s=5, idle_s=5, async_wait_s=0.2))
    consumer, (worker,) = Consumer(platform), platform.workers
    platform.context.view.workers = []
    first = await consumer.submitted(headers={"Idempotency-Key": "again"})
    assert (await consumer.ended(first))["status"] == "FAILED"
    assert await platform.settled() == "10.00"
    platform.context.view.workers = [worker]
    second = await consumer.submitted(headers={"Idempotency-Key": "again"})
    assert second != first
    assert (await consumer.ended(second))["status"] == "COMPLETED"


async def test_a_client_that_leaves_while_it_submits_finds_its_job_again(platform, consumer):
    body, headers = {"prompt": "hi", "model": "fake:words=3"}, platform.bearer | {"Idempotency-Key": "left"}
    create = platform.context.writer.create
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(row):
        begun.set()
        await go_on.wait()
        return await create(row)

    platform.context.writer.create = slow
    leaving = asyncio.create_task(platform.http.post(SUBMIT, json=body, headers=headers))
    await begun.wait()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    go_on.set()
    async with asyncio.timeout(60):
        while (answer := await platform.http.post(SUBMIT, json=body, headers=headers)).status_code == 409:
            await asyncio.sleep(0.05)
    assert (answer.status_code, answer.headers["idempotent-replayed"]) == (201, "true")
    assert (await consumer.ended(answer.json()["job_id"]))["status"] == "COMPLETED"


# --- waiting ------------------------------------------------------------------------------------------------------------------------------


async def test_a_job_waits_for_a_node_that_joins_later(platform):
    """D25, G14."""
    consumer, (worker,) = Consumer(platform), platform.workers
    platform.context.view.workers = []
    name = await consumer.submitted()
    assert (await consumer.job(name))["status"] == "PENDING"
    assert (await platform.wallet())["held"] == "1.00"
    platform.context.view.workers = [worker]
    assert (await consumer.ended(name))["status"] == "COMPLETED"


async def test_a_job_that_no_node_takes_fails_in_time_and_the_credit_is_back(platform_with):
    """S14, D25, G14."""
    platform = await platform_with(limits=Limits(async_wait_s=0.2))
    consumer = Consumer(platform)
    platform.context.view.workers = []
    row = await consumer.ended(await consumer.submitted())
    assert (row["status"], row["result"], row["cost"]) == ("FAILED", {"error": "No node took the job in time."}, "0.00")
    assert await platform.settled() == "10.00"


async def test_a_model_that_ran_of_late_is_waited_for_while_nobody_is_online_and_of_another_nobody_can_say(platform):
    """S14: with open catalog a model is known by those who had it. As when the cluster's head was started again."""
    consumer, (worker,) = Consumer(platform), platform.workers
    await consumer.ended(await consumer.submitted(model="fake:words=16"))
    platform.context.view.workers = []
    name = await consumer.submitted(model="fake:words=16")
    refused = await consumer.submit(model="never:heard-of")
    assert (refused.status_code, refused.json()["code"], refused.headers["Retry-After"]) == (503, "nobody_online", "5")
    refused = await platform.chat("never:heard-of")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "nobody_online")
    platform.context.view.workers = [worker]
    assert (await consumer.submit(model="never:heard-of")).status_code == 400
    assert (await consumer.ended(name))["status"] == "COMPLETED"


async def test_a_model_of_the_catalog_is_waited_for(platform):
    consumer = Consumer(platform)
    platform.context.view.workers = []
    platform.context.feed.catalog.digests["m:latest"] = "0" * 64
    name = await consumer.submitted(model="m:latest")
    assert (await consumer.job(name))["status"] == "PENDING"
    await consumer.call("DELETE", f"/api/computing/jobs/{name}/")


async def test_a_job_that_meets_busy_nodes_again_and_again_goes_on_waiting(platform, monkeypatch):
    """S14: it has time; only a consumer who waits is told."""
    from cluster.errors import NodeBusy
    from serve_app import driving

    monkeypatch.setattr(driving, "BUSY_PAUSE_S", 0.01)
    real, tries = platform.context.nodes.run, []

    async def run(url, attempt):
        tries.append(attempt.number)
        if len(tries) <= driving.BUSY_LIMIT + 5:
            raise NodeBusy(attempt.node, "busy", 0)
        async for event in real(url, attempt):
            yield event

    monkeypatch.setattr(platform.context.nodes, "run", run)
    consumer = Consumer(platform)
    row = await consumer.ended(await consumer.submitted())
    assert (row["status"], row["attempts"], set(tries)) == ("COMPLETED", 1, {1})


# --- one provider -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def market(platform_with, database):
    """Two nodes: one of Bob's, one of the operator's."""
    platform = await platform_with(nodes=2)
    bob = await somebody(platform.ledger, "bob")
    await own_node(platform, database, bob.headers, "node_1", kind="edge")
    return platform


@pytest.mark.parametrize("provider", ["bob", "BOB", "node_1"])
async def test_a_job_for_one_provider_runs_there(market, provider):
    """S14, S21, G11."""
    consumer = Consumer(market)
    names = [await consumer.submitted(provider=provider) for _ in range(4)]
    for name in names:
        row = await consumer.ended(name)
        assert row["node"] == {"id": "node_1", "name": "n", "provider": "bob"}
    why = (await consumer.get(f"/api/computing/jobs/{names[0]}/why/")).json()
    assert why["decisions"][0]["refused"] == {"node_local": "another provider was asked for"}


async def test_a_job_for_one_provider_waits_for_it_whoever_else_is_free(market):
    """S21."""
    consumer = Consumer(market)
    both, operators = market.workers, market.workers[:1]
    market.context.view.workers = operators
    name = await consumer.submitted(provider="bob")
    await consumer.ended(await consumer.submitted())
    assert (await consumer.job(name))["status"] == "PENDING"
    market.context.view.workers = both
    assert (await consumer.ended(name))["node"]["provider"] == "bob"


async def test_nobody_serves_the_own_job(market):
    """L7: Bob's job goes to another's node, also when he asks for his own."""
    from tests.ledger.people import sign_in

    tokens = (await sign_in(market.ledger, "bob")).json()
    bob = Consumer(market, bearer(tokens["access"]))
    assert (await bob.ended(await bob.submitted()))["node"]["id"] == "node_local"
    name = await bob.submitted(provider="bob")
    why = (await bob.get(f"/api/computing/jobs/{name}/why/")).json()
    assert why["decisions"][0]["refused"]["node_1"] == "it takes no jobs of this consumer"
    await bob.call("DELETE", f"/api/computing/jobs/{name}/")


async def test_a_key_for_trusted_machines_keeps_its_word_for_jobs_that_wait(market):
    from dataclasses import replace

    market.workers[1]._node = replace(market.workers[1]._node, kind=NodeKind.EDGE)
    ada = await somebody(market.ledger, "ada")
    consumer = keyed(market, await ada.key(privacy="trusted"))
    for _ in range(3):
        assert (await consumer.ended(await consumer.submitted()))["node"]["id"] == "node_local"


async def test_a_provider_that_left_for_good_is_not_known(market, database):
    bob = Consumer(market, bearer((await _tokens(market, "bob"))["access"]))
    await own_node(market, database, bob.headers, "node_1", state="deregistered")
    assert (await Consumer(market).submit(provider="bob")).status_code == 400


async def _tokens(platform, name):
    from tests.ledger.people import sign_in

    return (await sign_in(platform.ledger, name)).json()


async def test_a_job_whose_driver_is_lost_keeps_its_provider(market, database):
    """S21 over a lost replica."""
    from serve_app.adoption import adopt_once
    from tests.serve_app.drivers import close_driver, expire_leases, start_driver

    consumer = Consumer(market)
    both, market.context.view.workers = market.workers, market.workers[:1]
    name = await consumer.submitted(provider="bob")
    heir = await start_driver(market, "driver-heir")
    for task in list(market.context._background):
        task.cancel()
    market.context.writer.finish = _nothing
    market.context.view.workers = both
    await until(lambda: not market.context.driven)
    expire_leases(database)
    assert isinstance(heir.context.store, JobStore)
    assert await adopt_once(heir.context, heir.context.store) == 1
    row = await consumer.ended(name)
    assert (row["status"], row["node"]["id"]) == ("COMPLETED", "node_1")
    await close_driver(heir)


async def test_a_replica_that_leaves_gives_its_jobs_away_at_once(platform):
    """Its lease would last for another 15 s, and nodes wait for a reader no longer than that."""
    from serve_app.adoption import adopt_once
    from tests.serve_app.drivers import close_driver, start_driver
    from tests.serve_app.test_cancel import speaks, started_elsewhere

    leaving, heir, consumer = (
        await start_driver(platform, "driver-leaving"),
        await start_driver(platform, "driver-heir"),
        Consumer(platform),
    )
    name = await started_elsewhere(platform, leaving, "fake:drip=0.1", max_tokens=12)
    await speaks(platform, name)
    assert await adopt_once(heir.context, heir.context.store) == 0
    await leaving.context.store.release("driver-leaving")
    await leaving.die()
    assert await adopt_once(heir.context, heir.context.store) == 1
    row = await consumer.ended(name)
    assert (row["status"], row["attempts"], row["cost"]) == ("COMPLETED", 1, "1.00")
    assert row["result"]["output"] == "".join(words_of("hello there", 12))
    await close_driver(heir)


async def _nothing(finish):
    return False

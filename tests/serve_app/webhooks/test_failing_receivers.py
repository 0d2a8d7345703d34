"""Receivers that fail, fall silent, are slow or gone: tried for 24 hours, in order per job, and nobody else notices."""

import asyncio

import psycopg

from serve_app.webhooks import sending
from serve_app.webhooks.outbox import AT_ONCE_PER_HOST
from tests.serve_app.webhooks.desk import add, call, chat, deliver, deliveries, logged, replica, shift
from tests.serve_app.webhooks.receiver import said_in, verified


async def test_a_receiver_that_was_killed_and_comes_back_gets_each_event_once_and_in_order_per_job(platform, database, receiver):
    hook = await add(platform, receiver.url)
    await receiver.stop()
    async with replica(platform, database):
        jobs = await asyncio.gather(*(chat(platform) for _ in range(5)))
        await logged(platform, 5, error="It could not be connected to.")
        add_a_second_event_of_each(database)
        await receiver.start()
        shift(database, 3600)
        got = await receiver.heard(10)
        await logged(platform, 10, status="delivered")
    said = [verified(hook["secret"], one) for one in got]
    assert len(set(receiver.ids)) == len(receiver.got) == 10
    for job in jobs:
        assert [one["type"] for one in said if one["data"]["id"] == job] == ["job.succeeded", "job.failed"]


def add_a_second_event_of_each(database):
    """To the same endpoint, and due before the first one."""
    with psycopg.connect(database.admin_url, autocommit=True) as admin:
        admin.execute(
            "INSERT INTO serve_app.webhook_event (user_id, webhook_id, job_id, type, url, next_at) "
            "SELECT user_id, webhook_id, job_id, 'job.failed', url, next_at - interval '1 day' FROM serve_app.webhook_event WHERE job_id IS NOT NULL"
        )


async def test_errors_of_a_receiver_are_shown_and_tried_again_with_the_same_id(platform, database, receiver):
    receiver.answers = [500, 503, 302]
    receiver.location = "http://127.0.0.1:1/elsewhere"
    await add(platform, receiver.url)
    async with replica(platform, database):
        await chat(platform)
        for count, error in ((1, "It answered 500."), (2, "It answered 503."), (3, "It answered 302; redirects are not followed.")):
            (line,) = await logged(platform, 1, status="pending", attempts=count, error=error)
            assert line["next_attempt_at"] > line["last_attempt_at"]
            shift(database, 3600)
        await receiver.heard(4)
        await logged(platform, 1, status="delivered")
    assert len(set(receiver.ids)) == 1
    assert (await deliveries(platform))[0]["error"] is None


async def test_after_24_hours_an_event_is_given_up_and_shown_and_can_be_sent_again(platform, database, receiver):
    await add(platform, receiver.url)
    await receiver.stop()
    async with replica(platform, database, runs=False) as deliverer:
        await chat(platform)
        for _ in range(200):
            await deliver(deliverer)
            (line,) = await deliveries(platform)
            if line["status"] == "failed":
                break
            shift(database, 2 * 3600)  # the longest pause
        assert line["attempts"] == 13
        assert (line["next_attempt_at"], line["error"]) == (None, "It could not be connected to.")
        await receiver.start()
        assert await deliver(deliverer) == 0
        sent = await call(platform, "POST", f"deliveries/{line['id']}/resend/")
        assert (sent.status_code, sent.json()["status"]) == (202, "pending")
        await deliver(deliverer)
    assert receiver.ids == [line["id"]]
    assert (await deliveries(platform))[0]["status"] == "delivered"


async def test_an_endpoint_that_fails_for_days_is_disabled_with_a_note_until_its_owner_enables_it(platform, database, receiver):
    hook = await add(platform, receiver.url)
    receiver.answers = [500, 500]
    async with replica(platform, database, runs=False) as deliverer:
        await chat(platform)
        await deliver(deliverer)
        failing = (await call(platform, "GET", f"{hook['id']}/")).json()
        assert (failing["enabled"], failing["failing_since"] is not None) == (True, True)
        with psycopg.connect(database.admin_url, autocommit=True) as admin:
            admin.execute("UPDATE serve_app.webhook SET failing_since = failing_since - interval '6 days'")
        await chat(platform)
        await deliver(deliverer)
        disabled = (await call(platform, "GET", f"{hook['id']}/")).json()
        assert (disabled["enabled"], "5 days" in disabled["disabled_reason"]) == (False, True)
        assert {one["status"] for one in await deliveries(platform)} == {"failed"}
        await chat(platform)
        assert len(await deliveries(platform)) == 2
        refused = await call(platform, "POST", f"{hook['id']}/test/")
        assert (refused.status_code, refused.json()["code"]) == (409, "webhook_disabled")
        enabled = (await call(platform, "PATCH", f"{hook['id']}/", json={"enabled": True})).json()
        assert (enabled["enabled"], enabled["failing_since"], enabled["disabled_reason"]) == (True, None, None)
        job = await chat(platform)
        await deliver(deliverer)
    assert said_in(receiver.got[-1])["data"]["id"] == job


async def test_a_receiver_that_says_it_is_gone_gets_nothing_more(platform, database, receiver):
    hook = await add(platform, receiver.url)
    receiver.answers = [410]
    async with replica(platform, database, runs=False) as deliverer:
        await chat(platform)
        await deliver(deliverer)
    assert (await deliveries(platform))[0]["status"] == "failed"
    assert "410" in (await call(platform, "GET", f"{hook['id']}/")).json()["disabled_reason"]


async def test_a_slow_receiver_hurts_only_itself(platform, database, receiver, other):
    await add(platform, receiver.url)
    quick = await add(platform, other.url)
    receiver.is_open.clear()
    async with replica(platform, database):
        jobs = [await chat(platform) for _ in range(AT_ONCE_PER_HOST + 8)]
        got = await other.heard(len(jobs))
        assert {verified(quick["secret"], one)["data"]["id"] for one in got} == set(jobs)
        assert (receiver.got, receiver.most_at_once) == ([], AT_ONCE_PER_HOST)
        receiver.is_open.set()
        await receiver.heard(len(jobs))
    assert receiver.most_at_once <= AT_ONCE_PER_HOST


async def test_a_receiver_that_does_not_answer_is_given_up_after_the_limit(platform, database, receiver, monkeypatch):
    monkeypatch.setattr(sending, "ATTEMPT_LIMIT_S", 0.2)
    await add(platform, receiver.url)
    receiver.is_open.clear()
    async with replica(platform, database, runs=False) as deliverer:
        await chat(platform)
        await deliver(deliverer)
    assert (await deliveries(platform))[0]["error"] == "It did not answer within 0.2 s."

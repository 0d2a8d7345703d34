"""Replicas that deliver side by side, and die in between: at least once, and in the good case once."""

import asyncio

import pytest

from serve_app.db import DatabaseUnavailable
from serve_app.webhooks.outbox import Outbox
from serve_app.webhooks.records import Answer
from tests.faults.platform import LEDGER, faulty_platform
from tests.serve_app.webhooks.desk import add, chat, deliver, deliveries, logged, replica, shift
from tests.serve_app.webhooks.receiver import verified
from tests.waiting import until


async def test_a_replica_that_dies_between_claim_and_delivery_is_replaced_when_its_lease_runs_out(platform, database, receiver):
    await add(platform, receiver.url)
    await chat(platform)
    dying = Outbox(database.serve_url)
    (lost,) = await dying.claim(64, {}, {})
    async with replica(platform, database, runs=False) as deliverer:
        assert await deliver(deliverer) == 0
        shift(database, 31)
        await deliver(deliverer)
    assert len(receiver.got) == 1
    await dying.failed(lost, Answer(None, "It died."), 10.0)
    (line,) = await deliveries(platform)
    assert (line["status"], line["attempts"], line["error"]) == ("delivered", 2, None)
    await dying.aclose()


async def test_two_replicas_side_by_side_send_nothing_twice(platform, database, receiver, other):
    await add(platform, receiver.url)
    await add(platform, other.url)
    async with replica(platform, database), replica(platform, database), replica(platform, database):
        await asyncio.gather(*(chat(platform) for _ in range(30)))
        await receiver.heard(30)
        await other.heard(30)
        await logged(platform, 60, status="delivered", attempts=1)
    assert len(set(receiver.ids)) == len(receiver.got) == 30
    assert len(set(other.ids)) == len(other.got) == 30


async def not_written(*_):
    raise DatabaseUnavailable(3)


async def test_a_database_that_is_away_when_the_outcome_is_written_means_the_same_id_again(platform, database, receiver, monkeypatch):
    await add(platform, receiver.url)
    await chat(platform)
    async with replica(platform, database, runs=False) as deliverer:
        with monkeypatch.context() as away:
            away.setattr(deliverer._outbox, "delivered", not_written)
            await deliver(deliverer)
        shift(database, 31)
        await deliver(deliverer)
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1
    assert (await deliveries(platform))[0]["status"] == "delivered"


async def test_old_deliveries_are_forgotten_and_what_could_not_even_be_tried_is_given_up(platform, database, receiver):
    await add(platform, receiver.url)
    for _ in range(3):
        await chat(platform)
    outbox = platform.context.webhooks.outbox
    seqs = "SELECT seq FROM serve_app.webhook_event ORDER BY seq"
    shift(database, 31 * 86_400, f"seq = ({seqs} LIMIT 1)")
    shift(database, 25 * 3600, f"seq = ({seqs} OFFSET 1 LIMIT 1)")
    await outbox.tidy()
    assert [one["status"] for one in await deliveries(platform)] == ["pending", "failed"]


async def test_replicas_as_they_run_deliver_without_being_asked(database, ledger_with, receiver):
    ledger = await ledger_with(**LEDGER)
    async with faulty_platform(database, ledger, nodes=1, replicas=2) as platform:
        hook = await add(platform, receiver.url)
        for url in platform.urls * 2:
            answer = await platform.http.post(f"{url}/v1/chat/completions", json=platform.body(), headers=platform.bearer)
            assert answer.status_code == 200
        await logged(platform, 4, status="delivered")
    assert len({verified(hook["secret"], one)["data"]["id"] for one in receiver.got}) == len(receiver.got) == 4


async def test_a_loop_that_is_ended_while_a_delivery_ends_ends(platform, database):
    """A replica that is replaced waits for its loops."""
    async with replica(platform, database, runs=False) as deliverer:
        for _ in range(20):
            loop = asyncio.create_task(deliverer.run())
            await until(lambda: deliverer._has_room._waiters)
            deliverer._has_room.set()
            loop.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(loop, 60)

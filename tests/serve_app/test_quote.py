"""What a job can cost and how long it is likely to wait, before anything is held."""

import asyncio

import pytest

from tests.serve_app.consumers import Consumer
from tests.serve_app.test_nodes import own_node
from tests.serve_app.test_waiting import dispatched
from tests.waiting import until

QUOTE = "/api/computing/quote/"


async def quote(platform, **body):
    return await Consumer(platform).call("POST", QUOTE, json={"prompt": "hello there", "model": "fake:words=3"} | body)


async def test_it_is_what_is_held_for_the_same_body(platform_with):
    """S15, S26: prices come from the ledger alone."""
    platform = await platform_with(ledger_settings={"prompt_price": "1000.00", "completion_price": "500.00"}, credits="500.00")
    await platform.context.feed.poll()
    for body in ({"max_tokens": 7}, {"max_tokens": 100, "prompt": "a longer prompt"}, {}):
        said = (await quote(platform, **body)).json()
        assert (await platform.wallet())["held"] == "0.00"
        held = (await Consumer(platform).submit(**({"prompt": "hello there"} | body))).json()["held"]
        assert said["max_cost"] == held
        assert said["price"] == {"job": "1.00", "prompt_per_million": "1000.00", "completion_per_million": "500.00"}
        await platform.settled()


async def test_a_free_node_takes_it_at_once(platform):
    await platform.context.feed.poll()
    said = (await quote(platform)).json()
    assert said["wait"] == {"ahead": 0, "estimated_s": 0.0}
    assert (said["model"], said["max_tokens"]) == ("fake:words=3", platform.settings.max_tokens)


async def test_behind_others_it_tells_how_many_and_how_long(platform_with):
    platform = await platform_with(slots=1)
    await platform.context.feed.poll()
    consumer = Consumer(platform)
    async with dispatched(platform) as dispatcher:
        names = [await consumer.submitted(model="fake:hang@0") for _ in range(3)]
        await until(lambda: dispatcher.status()["waiting"] == {"fake:hang@0": 2})
        await until(lambda: platform.context.view.snapshot.waiting == {"fake:hang@0": 2})
        wait = (await quote(platform, model="fake:hang@0")).json()["wait"]
        assert wait["ahead"] == 2
        assert wait["estimated_s"] >= 1
        for name in names:
            await consumer.call("DELETE", f"/api/computing/jobs/{name}/")
        await asyncio.gather(*map(consumer.ended, names))


async def test_a_model_that_nobody_has_now_has_no_expected_wait(platform_with):
    platform = await platform_with()
    await platform.context.feed.poll()
    async with dispatched(platform):
        platform.context.feed.catalog.digests["later:latest"] = "0" * 64
        assert (await quote(platform, model="later:latest")).json()["wait"] is None


async def test_who_could_not_be_served_by_a_free_node_is_not_told_so(platform_with, database):
    """L7: the only free node is the caller's own."""
    platform = await platform_with()
    await own_node(platform, database, platform.bearer, "node_local", kind="edge")
    assert (await quote(platform)).json()["wait"] is None


async def test_before_the_ledger_told_any_price_nobody_can_say(platform):
    answer = await quote(platform)
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


@pytest.mark.parametrize(
    ("body", "field"), [({"prompt": ""}, "prompt"), ({"model": "nosuch"}, "model"), ({"provider": "nobody"}, "provider"), ({"x": 1}, "x")]
)
async def test_it_refuses_what_a_submission_would_refuse(platform, body, field):
    answer = await quote(platform, **body)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [field])

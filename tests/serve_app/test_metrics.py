"""What a replica counts: each answer, each end of a job, each settlement, once."""

import asyncio

import pytest

from serve_app.metrics import BOUNDS_S, FIRST_TOKENS, JOBS, SETTLED, SETTLED_MICROS, WAITS, Spread
from tests.waiting import until


def test_a_spread_counts_up_to_each_bound():
    spread = Spread()
    for seconds in (0.1, 0.11, 3, 10_000):
        spread.note(seconds)
    buckets = dict(spread.buckets())
    assert (buckets["0.1"], buckets["0.25"], buckets["2"], buckets["4"], buckets["600"], buckets["+Inf"]) == (1, 2, 2, 3, 3, 4)
    assert len(buckets) == len(BOUNDS_S) + 1


@pytest.fixture
def figures(platform):
    return platform.context.figures


async def test_an_answered_job_is_counted_with_its_tokens_its_times_and_its_cost(platform, figures):
    answer = await platform.chat("fake:words=3", max_tokens=8)
    await platform.settled()
    await until(lambda: figures.settled)
    told = figures.told()
    assert answer.status_code == 200
    assert figures.answers == {200: 1}
    assert told[JOBS, ("succeeded", "yes")] == 1
    assert figures.tokens["completion"] == answer.json()["usage"]["completion_tokens"]
    assert (told[FIRST_TOKENS, ("yes", "+Inf")], told[WAITS, ("yes", "0.1")]) == (1, 1)
    assert (told[SETTLED, ()], told[SETTLED_MICROS, ()]) == (1, 1_000_000)


async def test_a_refusal_is_no_job_and_a_broken_attempt_no_end(platform, figures):
    assert (await platform.chat("nobody:1b")).status_code == 404
    assert figures.jobs == {}
    assert figures.answers == {404: 1}
    assert (await platform.chat("fake:500")).status_code == 502
    await platform.settled()
    assert figures.broken_attempts["RuntimeFailed"] > 1
    assert figures.jobs == {("failed", "yes"): 1}
    assert figures.told()[FIRST_TOKENS, ("yes", "+Inf")] == 0


async def test_ends_of_other_kinds(platform, figures):
    async with platform.http.stream(
        "POST", "/v1/chat/completions", json=platform.body("fake:cut@2", stream=True), headers=platform.bearer
    ) as stream:
        await stream.aread()
    await until(lambda: figures.jobs["incomplete", "yes"] == 1)
    submitted = await platform.http.post(
        "/api/computing/submit-job/", json={"model": "fake:words=3", "prompt": "hello"}, headers=platform.bearer
    )
    assert submitted.status_code < 300, submitted.text
    await until(lambda: figures.jobs["succeeded", "no"] == 1)
    with pytest.raises(TimeoutError):
        async with (
            asyncio.timeout(1),
            platform.http.stream(
                "POST", "/v1/chat/completions", json=platform.body("fake:drip=0.1", stream=True), headers=platform.bearer
            ) as stream,
        ):
            await stream.aread()
    await until(lambda: figures.jobs["canceled", "yes"] == 1)
    await platform.settled()


async def test_machines_that_ask_for_health_are_not_counted(platform, figures):
    await platform.http.get("/healthz")
    await platform.http.get("/readyz")
    assert figures.answers == {}

"""Nodes that fail are left alone for a while; requests that end runtimes are not tried on a third one (fault rows 7 and 42)."""

import asyncio
import time

from cluster.breaker import FAILURES
from tests.waiting import until


async def test_row_42_a_request_that_ends_two_runtimes_is_not_tried_on_a_third_and_nobody_is_struck(platform_with):
    platform = await platform_with(nodes=3)
    answer = await platform.chat("fake:cut@0")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "poison_request")
    assert sum(worker.node.admitted for worker in platform.workers) == 2
    assert platform.context.breakers.open(0.0) == frozenset()
    assert await platform.settled() == "10.00"
    again = await platform.chat("fake:cut@0")
    assert again.json()["error"]["code"] == "poison_request"
    assert sum(worker.node.admitted for worker in platform.workers) == 2
    assert (await platform.chat("fake:cut@0", "something else")).json()["error"]["code"] == "poison_request"
    assert sum(worker.node.admitted for worker in platform.workers) == 4


async def test_row_7_a_node_that_fails_what_others_can_do_gets_no_more_jobs_and_nobody_notices(platform_with):
    platform = await platform_with(credits="100.00", nodes=2, slots=1)
    platform.scripts[1].always = "fake:500"
    for _ in range(20):
        both = await asyncio.gather(platform.chat(), platform.chat())  # two at once: one of them has to go to the bad one
        assert [answer.status_code for answer in both] == [200, 200]
    assert platform.context.breakers.open(time.monotonic()) == {"node_1"}
    assert platform.workers[1].node.admitted == FAILURES
    assert await platform.settled() == "60.00"


async def test_a_job_that_a_node_failed_goes_there_again_rather_than_wait_for_a_busy_one_till_it_is_refused(platform_with, monkeypatch):
    monkeypatch.setattr("cluster.placement.EXCLUDED_S", 0.3)
    platform = await platform_with(credits="100.00", nodes=2, slots=1)
    long, other = await busy_one(platform)
    platform.scripts[other].always = "fake:500"
    asked = asyncio.create_task(platform.chat())
    await until(lambda: platform.context.view.requests)
    platform.scripts[other].always = None
    assert (await asked).status_code == 200
    assert not long.done(), "it waited for the busy one"
    assert platform.workers[other].node.admitted == 2
    long.cancel()


async def busy_one(platform):
    """Take one node's only slot for long; answer the job and the other node's number."""
    job = asyncio.create_task(platform.chat("fake:hang@2"))
    await until(lambda: any(worker.node.running for worker in platform.workers))
    return job, next(n for n, worker in enumerate(platform.workers) if not worker.node.running)


async def test_one_failure_is_enough_to_prefer_another_node_that_has_room(platform_with):
    platform = await platform_with(credits="100.00", nodes=2)
    platform.scripts[1].always = "fake:500"
    for _ in range(20):
        assert (await platform.chat()).status_code == 200
    assert platform.workers[1].node.admitted == 1


async def test_a_request_that_fails_everywhere_closes_nobody(platform_with):
    platform = await platform_with(credits="100.00", nodes=2)
    for _ in range(FAILURES + 1):
        assert (await platform.chat("fake:500")).status_code == 502
    assert platform.context.breakers.open(time.monotonic()) == frozenset()
    assert (await platform.chat()).status_code == 200

"""Runtimes that fail: rows 6 to 13 of the fault matrix (42, and 7 with two nodes: tests/serve_app/test_failing_nodes.py)."""

import asyncio
import time

import pytest

from cluster.breaker import FAILURES, OPEN_S
from cluster.limits import Limits
from tests.books import attempts_of, contradictions, rows_of
from tests.crowd import QUICK, Crowd, History, Kind
from tests.faults.platform import until
from tests.scripted_runtime import words_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]
SHORT = Kind("fake:words=3", 100, 3)
STEADY = Kind("fake:drip=0.1", 5, 5)
MEMORY_LIMIT_BYTES = 50_000_000
DEADLINE_S = 3.0


def crowd_of(platform, tmp_path, *kinds, in_flight=8):
    return Crowd(platform.url, platform.key, History(tmp_path / "history"), kinds=tuple((kind, 1) for kind in kinds), in_flight=in_flight)


async def all_right(platform, crowd, jobs):
    """Run jobs; all must be answered in full, and paid once."""
    outcomes = await crowd.run(jobs)
    assert {outcome.ended for outcome in outcomes} == {"ok"}, [outcome for outcome in outcomes if outcome.ended != "ok"]
    await platform.require_quiet()
    assert contradictions(platform.database.admin_url, outcomes) == []
    return outcomes


def attempts_on(platform, node):
    return platform.dispatcher.snapshot().nodes[node.id].admitted


def most_tries(*, in_flight, since):
    """As many as a breaker lets through: those on their way when the last straw breaks, then one in each of its times."""
    return FAILURES + in_flight + (time.monotonic() - since) / OPEN_S


async def test_row_6_a_killed_runtime_closes_its_node_after_a_few_errors_and_the_jobs_go_elsewhere(platform_with, figure, tmp_path):
    platform = await platform_with(nodes=2, slots=4, has_runtime_processes=True)
    crowd = crowd_of(platform, tmp_path, STEADY, SHORT)
    running = asyncio.create_task(all_or_incomplete(platform, crowd, 80))
    await until(lambda: crowd.ended >= 16, 30)
    struck = platform.nodes[1]
    await struck.kill_runtime()
    await until(lambda: not platform.known()[struck.id].is_healthy)
    admitted = attempts_on(platform, struck)
    outcomes = await running
    assert attempts_on(platform, struck) - admitted == 0
    incomplete = sum(outcome.ended == "incomplete" for outcome in outcomes)
    figure(6, "of 80 jobs incomplete, one of two runtimes killed", incomplete)
    assert incomplete <= struck.slots
    await struck.start_runtime()
    await platform.until_known()


async def all_or_incomplete(platform, crowd, jobs):
    outcomes = await crowd.run(jobs)
    assert {outcome.ended for outcome in outcomes} <= {"ok", "incomplete"}, [one for one in outcomes if one.ended != "ok"]
    await platform.require_quiet()
    assert contradictions(platform.database.admin_url, outcomes) == []
    return outcomes


async def test_row_7_one_of_four_nodes_that_answers_500_is_noticed_by_nobody(platform_with, figure, tmp_path):
    platform = await platform_with(nodes=4, slots=4)
    platform.nodes[2].script.always = "fake:500"
    began = time.monotonic()
    await all_right(platform, crowd_of(platform, tmp_path, SHORT), 300)
    tried = attempts_on(platform, platform.nodes[2])
    figure(7, "of 300 jobs answered right with 1 of 4 nodes answering 500", f"300; {tried} tries there")
    assert tried <= most_tries(in_flight=8, since=began)


async def test_row_8_a_model_that_is_gone_is_tried_once_and_leaves_the_inventory(platform_with, figure, tmp_path):
    platform = await platform_with(nodes=2, slots=4)
    gone = platform.nodes[1]
    gone.script.always = "bad:404"
    await all_right(platform, crowd_of(platform, tmp_path, QUICK, in_flight=1), 30)
    figure(8, "tries where the model is gone, of 30 jobs", gone.script.refusals)
    assert gone.script.refusals <= 1
    await until(lambda: [model.name for model in platform.known()[gone.id].models] == ["fake:words=3"])
    gone.script.always = None
    await until(lambda: any(model.name == QUICK.model for model in platform.known()[gone.id].models))


async def test_row_9_a_runtime_that_answers_503_never_has_more_in_flight_than_slots(platform_with, figure, tmp_path):
    platform = await platform_with(nodes=2, slots=3)
    busy, other = platform.nodes
    busy.script.always = "bad:503"
    await all_right(platform, crowd_of(platform, tmp_path, SHORT, STEADY, in_flight=12), 60)
    figure(9, "most at once on a node of 3 slots, 12 jobs in flight", other.script.most_running)
    assert other.script.most_running <= other.slots


async def test_row_10_a_runtime_that_never_answers_costs_its_deadline_and_no_more(platform_with, figure, tmp_path):
    platform = await platform_with(nodes=2, slots=4, limits=Limits(first_token_s=DEADLINE_S))
    platform.nodes[1].script.always = "fake:hang@0"
    began = time.monotonic()
    outcomes = await all_right(platform, crowd_of(platform, tmp_path, SHORT, in_flight=4), 60)
    slowest_s = max(outcome.first_s or 0 for outcome in outcomes)
    figure(10, f"longest wait for the first text, deadline {DEADLINE_S:g} s, one of two nodes silent", f"{slowest_s:.1f} s")
    assert max(attempts_of(platform.database.admin_url, [outcome.jobs[-1] for outcome in outcomes]).values()) == 2
    assert attempts_on(platform, platform.nodes[1]) <= most_tries(in_flight=4, since=began)


async def test_row_11_a_word_every_five_seconds_is_slow_and_no_failure(platform_with, figure):
    platform = await platform_with(nodes=1)
    answer = await platform.chat("fake:drip=5", "slowly", max_tokens=2)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "".join(words_of("slowly", 2))
    assert (await platform.job(answer.headers["X-GFE-Job"]))["attempts"] == 1
    figure(11, "one word every 5 s", "goes on")


@pytest.mark.parametrize("nonsense", ["fake:garbage", "bad:half", "bad:utf8", "bad:line=100"])
async def test_row_12_nonsense_from_a_runtime_goes_to_another_node_and_nothing_breaks(platform_with, figure, nonsense):
    platform = await platform_with(nodes=2)
    struck = platform.nodes[1]
    struck.script.always = nonsense
    before = struck.worker.rss_bytes
    highest = before
    for n in range(24):
        asked = asyncio.create_task(platform.chat(text=f"job {n}"))
        while not asked.done():
            highest = max(highest, struck.worker.rss_bytes)
            await asyncio.sleep(0.01)
        answer = asked.result()
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == "".join(words_of(f"job {n}", 16))
        if struck.script.answers >= 3:
            break
    assert struck.script.answers >= 1
    figure(12, f"memory of the worker more by, {nonsense}", f"{(highest - before) / 1e6:.1f} MB")
    assert highest - before < MEMORY_LIMIT_BYTES
    assert struck.worker.is_alive


async def test_row_12_nonsense_from_all_nodes_is_their_failure_and_no_poison(platform_with):
    platform = await platform_with(nodes=2)
    for node in platform.nodes:
        node.script.always = "bad:utf8"
    answer = await platform.chat()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "runtime_failed")
    for node in platform.nodes:
        node.script.always = None
    assert (await platform.chat()).status_code == 200


async def test_row_13_an_answer_without_an_end_is_incomplete_and_never_a_success(platform_with, figure):
    platform = await platform_with(nodes=2, slots=10)
    before = float(await platform.balance())
    answers = await asyncio.gather(*(platform.chat("fake:nodone", stream=streams) for streams in (False, True) * 5))
    for whole, streamed in zip(answers[::2], answers[1::2], strict=True):
        assert '"code": "incomplete"' in streamed.text
        assert "[DONE]" not in streamed.text
        assert (whole.status_code, whole.json()["error"]["code"]) == (502, "incomplete")
    await platform.require_quiet()
    rows = rows_of(
        platform.database.admin_url,
        "SELECT state, is_incomplete, completion_tokens, result FROM serve_app.job JOIN serve_app.job_text ON job_id = id",
    )
    assert set(rows) == {(3, True, 6, "".join(words_of("hello there", 6)))}
    assert before - float(await platform.balance()) == pytest.approx(len(rows) * 6 * 0.001)
    figure(13, "of 10 answers without an end marked succeeded", 0)

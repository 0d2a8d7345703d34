"""What is loaded, for how long, and for how many at once. What any Ollama API keeps, ours and a real one; the numbers are those of the Ollama reference, section 7."""

import asyncio
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from tests.contract.ollama_runtimes import BE_ALONE, BE_OPENED, CONTEXT, MOVE, NUMBERS, STEADY, STORY, STORY_OPTIONS, Embedded
from tests.waiting import wait_for

SOON_S = 15  # long before any story ends


def test_32_an_empty_prompt_loads_the_model(runtime):
    runtime.needs(MOVE)
    for path, shape in (("/api/chat", "message"), ("/api/generate", "response")):
        answer = runtime.post(path, {"model": runtime.model})
        said = answer.json()  # one object, though it would stream
        assert answer.headers["content-type"].startswith("application/json")
        assert (said["done"], said["done_reason"]) == (True, "load")
        assert shape in said
        assert runtime.loaded()


def test_33_an_empty_prompt_without_time_to_live_unloads_it(runtime):
    runtime.needs(MOVE)
    for path in ("/api/chat", "/api/generate"):
        runtime.chat()
        assert runtime.post(path, {"model": runtime.model, "keep_alive": 0}).json()["done_reason"] == "unload"
        wait_for(lambda: runtime.loaded() is None)


def test_34_a_model_goes_when_its_time_is_over(runtime):
    runtime.needs(MOVE)
    runtime.chat(keep_alive="2s")
    assert runtime.loaded()
    wait_for(lambda: runtime.loaded() is None)


@pytest.mark.parametrize(("keep_alive", "least", "most"), [("1h", 3500, 3700), (600, 500, 700), (-1, 3e9, 3e10), ("-1m", 3e9, 3e10)])
def test_34_ps_tells_when_it_goes(runtime, keep_alive, least, most):
    runtime.needs(MOVE)
    runtime.chat(keep_alive=keep_alive)
    left = datetime.fromisoformat(runtime.loaded()["expires_at"][:19]).replace(tzinfo=UTC) - datetime.now(UTC)
    runtime.chat(keep_alive="30m")
    assert timedelta(seconds=least) < left < timedelta(seconds=most)


def test_38_leaving_a_stream_frees_its_slot(runtime):
    runtime.needs(BE_ALONE)
    for _ in range(4):
        with runtime.http.stream("POST", "/api/chat", json=runtime.chat_body(STORY, options=STORY_OPTIONS)) as answer:
            next(answer.iter_lines())
    assert runtime.chat(timeout_s=SOON_S).status_code == 200


def test_39_leaving_without_a_stream_frees_its_slot(runtime):
    runtime.needs(BE_ALONE)
    runtime.chat()
    for _ in range(4):
        with pytest.raises(httpx2.ReadTimeout):
            runtime.chat(STORY, options=STORY_OPTIONS, timeout_s=0.5)
    assert runtime.chat(timeout_s=SOON_S).status_code == 200


async def test_40_four_at_once_all_finish(runtime):
    runtime.needs(BE_ALONE)
    found = await asyncio.gather(*(asyncio.to_thread(runtime.chat) for _ in range(4)))
    assert [one.text for one in found if one.status_code != 200] == []
    assert all(runtime.says(one.json()["message"]["content"]) for one in found)
    assert all(one.json()["eval_count"] > 0 for one in found)


def test_41_another_context_loads_the_model_anew(runtime):
    runtime.needs(MOVE)
    runtime.chat()
    said = runtime.chat(options={**STEADY, "num_ctx": CONTEXT // 2}).json()
    assert said["load_duration"] > 0
    assert runtime.loaded()["context_length"] == CONTEXT // 2
    runtime.chat()
    assert runtime.loaded()["context_length"] == CONTEXT


@pytest.mark.slow
@pytest.mark.model
def test_54_a_full_queue_is_503(tmp_path):
    with Embedded.running(tmp_path, slots=1, more=("--max-queue", 1)) as runtime, ThreadPoolExecutor(3) as threads:
        with runtime.http.stream("POST", "/api/chat", json=runtime.chat_body(STORY, options=STORY_OPTIONS, format=NUMBERS)) as story:
            lines = story.iter_lines()  # kept: the connection closes with it
            next(lines)
            asked = as_completed([threads.submit(runtime.chat) for _ in range(3)])
            refused = [next(asked).result(), next(asked).result()]
        waited = next(asked).result()
    busy = {"error": "server busy, please try again.  maximum pending requests exceeded"}
    assert [(one.status_code, one.json()) for one in refused] == [(503, busy), (503, busy)]
    assert waited.status_code == 200


@pytest.mark.slow
def test_41_what_runs_ends_before_another_context_takes_its_place(runtime):
    runtime.needs(BE_OPENED)
    with (
        ThreadPoolExecutor(1) as threads,
        runtime.http.stream("POST", "/api/chat", json=runtime.chat_body(STORY, options={"num_predict": 200})) as story,
    ):
        lines = story.iter_lines()
        next(lines)
        other = threads.submit(runtime.chat, options={**STEADY, "num_ctx": CONTEXT // 2})
        assert '"done": true' in list(lines)[-1]
        assert other.result().status_code == 200

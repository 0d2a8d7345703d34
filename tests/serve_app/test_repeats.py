"""A request may be repeated under its Idempotency-Key, streams too: one job, one charge, the same answer."""

import asyncio
import json

import pytest

from tests.scripted_runtime import words_of
from tests.waiting import until

SIXTEEN = "".join(words_of("hello there", 16))
BODIES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hello there"}], "max_tokens": 16, "stream": True},
    "/v1/completions": {"prompt": "hello there", "max_tokens": 16, "stream": True},
    "/v1/responses": {"input": "hello there", "max_output_tokens": 16, "stream": True},
    "/v1/messages": {"messages": [{"role": "user", "content": "hello there"}], "max_tokens": 16, "stream": True},
    "/api/chat": {"messages": [{"role": "user", "content": "hello there"}], "options": {"num_predict": 16}},
    "/api/generate": {"prompt": "hello there", "options": {"num_predict": 16}},
}


def told(path, text):
    """The text of a stream, in whichever dialect, and whether it ended as the dialect wants it."""
    if path.startswith("/api/"):
        lines = [json.loads(line) for line in text.splitlines()]
        return "".join(line.get("response", "") + line.get("message", {}).get("content", "") for line in lines), lines[-1]["done"]
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    match path:
        case "/v1/messages":
            return "".join(one["delta"].get("text", "") for one in events if one["type"] == "content_block_delta"), (
                events[-1]["type"] == "message_stop"
            )
        case "/v1/responses":
            pieces = "".join(one["delta"] for one in events if one["type"] == "response.output_text.delta")
            return pieces, events[-1]["type"] == "response.incomplete"
    choices = [choice for one in events for choice in one["choices"]]
    return "".join(one.get("text", "") + one.get("delta", {}).get("content", "") for one in choices), text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("path", BODIES)
async def test_a_repeat_of_a_running_stream_reads_along_from_its_beginning(platform, path):
    body, headers = BODIES[path] | {"model": "fake:drip=0.1"}, platform.bearer | {"Idempotency-Key": "twice"}

    async def ask():
        answer = await platform.http.post(path, json=body, headers=headers)
        return answer.headers["x-gfe-job"], answer.headers.get("idempotent-replayed"), told(path, answer.text)

    first = asyncio.create_task(ask())
    await until(lambda: platform.workers[0].node.running)
    second, third = await asyncio.gather(ask(), ask())
    job, replayed, answered = await first
    late = await ask()
    assert answered == (SIXTEEN, True)
    assert replayed is None
    assert [second, third, late] == [(job, "true", (SIXTEEN, True))] * 3
    assert len(platform.scripts[0].requests) == 1
    assert await platform.settled() == "9.00"


async def test_a_whole_answer_is_asked_for_again_when_it_is_ready(platform):
    headers = {"Idempotency-Key": "whole"}
    first = asyncio.create_task(platform.chat("fake:drip=0.1", max_tokens=8, headers=headers))
    await until(lambda: platform.workers[0].node.running)
    early = await platform.chat("fake:drip=0.1", max_tokens=8, headers=headers)
    assert (early.status_code, early.headers["retry-after"], early.json()["error"]["code"]) == (409, "2", "in_progress")
    done, late = await first, await platform.chat("fake:drip=0.1", max_tokens=8, headers=headers)
    assert late.json()["choices"] == done.json()["choices"]
    assert late.headers["x-gfe-cost"] == done.headers["x-gfe-cost"] == "1.00"


async def test_a_key_of_another_request_is_refused(platform):
    await platform.chat(headers={"Idempotency-Key": "same"})
    other = await platform.chat(text="something else", headers={"Idempotency-Key": "same"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_conflict")


async def test_after_a_failure_of_ours_before_the_first_token_the_same_key_is_a_new_try(platform):
    failed = await platform.chat("fake:500", headers={"Idempotency-Key": "again"})
    await platform.settled()
    again = await platform.chat("fake:500", headers={"Idempotency-Key": "again"})
    assert [failed.status_code, again.status_code] == [502, 502]
    assert failed.headers["x-gfe-job"] != again.headers["x-gfe-job"]


async def test_a_stream_that_broke_off_is_told_again_as_far_as_it_went(platform):
    body, headers = platform.body("fake:cut@2", stream=True), platform.bearer | {"Idempotency-Key": "broken"}
    first = await platform.http.post("/v1/chat/completions", json=body, headers=headers)
    again = await platform.http.post("/v1/chat/completions", json=body, headers=headers)
    two = "".join(words_of("hello there", 2))
    for answer in (first, again):
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        assert "".join(one["choices"][0]["delta"].get("content", "") for one in events if "choices" in one) == two
        assert "error" in events[-1]
        assert "[DONE]" not in answer.text

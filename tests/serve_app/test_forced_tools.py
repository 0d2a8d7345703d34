"""A tool that must be called is a job like any other: what its runtime wrote is kept and charged, what its client is told is a call."""

import json

from cluster.dialects.table import DIALECTS
from serve_app.asking import job_request_of
from tests.clients.conftest import HELLO, TOOL

CHAT = "/v1/chat/completions"
FORCED = {"model": "fake:words=3", "messages": HELLO, "tools": [TOOL], "tool_choice": "required"}


async def ask(platform, key=None, **more):
    headers = platform.bearer | ({"Idempotency-Key": key} if key else {})
    return await platform.http.post(CHAT, json=FORCED | more, headers=headers)


async def test_the_job_keeps_what_the_runtime_wrote(platform):
    answer = await ask(platform)
    call = answer.json()["choices"][0]["message"]["tool_calls"][0]
    name = answer.headers["x-gfe-job"]
    assert (call["id"], json.loads(call["function"]["arguments"]).keys()) == (f"call_{name}", {"city"})
    assert (await platform.job(name))["result"] == {"output": call["function"]["arguments"]}
    [seen] = platform.scripts[0].requests
    assert (seen["format"], "tools" in seen, [one["role"] for one in seen["messages"]]) == (
        TOOL["function"]["parameters"], False, ["system", "user"],
    )  # fmt: skip


async def test_what_the_model_is_told_of_the_tool_is_counted_and_charged(platform_with):
    """The system text of ours is a part of the prompt: the runtime reads it, the hold covers it, the consumer pays for it."""
    platform = await platform_with(ledger_settings={"prompt_price": "1000.00"}, credits="500.00")
    plain = (await ask(platform, tool_choice="none")).json()["usage"]
    forced = (await ask(platform)).json()["usage"]
    assert forced["prompt_tokens"] > plain["prompt_tokens"] + 10
    assert float(forced["cost"]) > float(plain["cost"])


async def test_a_repeat_is_told_the_same_call(platform, idempotency_key):
    first, again = [(await ask(platform, idempotency_key)).json()["choices"] for _ in range(2)]
    assert first == again
    streams = [(await ask(platform, f"{idempotency_key}-s", stream=True)).text for _ in range(2)]
    calls = [
        [
            call
            for line in text.splitlines()
            if line.startswith("data: {")
            for call in json.loads(line[6:])["choices"][0]["delta"].get("tool_calls", ())
        ]
        for text in streams
    ]
    whole = ["".join(call["function"]["arguments"] for call in found) for found in calls]
    assert whole[0] == whole[1] == first[0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert [len([call for call in found if "id" in call]) for found in calls] == [1, 1]


async def test_nobody_goes_on_in_the_middle_of_a_forced_call(platform):
    forced = job_request_of(platform.context, DIALECTS[CHAT].read(FORCED))
    assert not forced.is_continuable
    assert job_request_of(platform.context, DIALECTS[CHAT].read(FORCED | {"tool_choice": "none"})).is_continuable

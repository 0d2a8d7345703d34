"""The `@anthropic-ai/sdk` package for JavaScript."""

import json

import pytest

from tests.clients.apart import pinned_in_javascript
from tests.clients.compatibility import Client
from tests.clients.conftest import PIXEL, said
from tests.waiting import until

CLIENT = Client(
    "anthropic (JavaScript)", pinned_in_javascript("@anthropic-ai/sdk"), "`new Anthropic({ baseURL: URL, apiKey: KEY })`",
    {"logprobs": "Anthropic's API has none", "embeddings": "Anthropic's API has none"},
)  # fmt: skip


@pytest.fixture
def ask(asks, javascript):
    return asks(javascript, "anthropic")


async def test_chat(ask):
    answer = await ask("chat")
    assert (answer["content"][0]["text"], answer["stop_reason"]) == (said(3), "end_turn")
    assert (answer["usage"]["output_tokens"], answer["usage"]["cost"]) == (3, "1.00")


async def test_stream(ask):
    told = await ask("stream")
    assert "".join(told["pieces"]) == told["final"]["content"][0]["text"] == said(16)
    assert (told["final"]["stop_reason"], told["final"]["usage"]["output_tokens"]) == ("end_turn", 16)


async def test_limit(ask):
    answer = await ask("limit")
    assert (answer["content"][0]["text"], answer["stop_reason"]) == (said(2), "max_tokens")


async def test_tools(ask, platform):
    answer = await ask("tools")
    use = answer["content"][0]
    assert (answer["stop_reason"], use["type"], use["name"], use["input"]) == ("tool_use", "tool_use", "weather", {"city": "x"})
    _, assistant, tool = platform.scripts[0].requests[-1]["messages"]
    assert assistant["tool_calls"][0]["function"]["arguments"] == {"city": "x"}
    assert (tool["content"], tool["tool_name"]) == ("sunny", "weather")


async def test_tools_as_a_stream(ask):
    answer = await ask("toolsAsAStream")
    assert (answer["content"][0]["input"], answer["stop_reason"]) == ({"city": "x"}, "tool_use")


async def test_forced_tools_of_a_model_that_knows_none(ask):
    for answer in await ask("forced"):
        assert [(block["type"], block["name"], set(block["input"])) for block in answer["content"]] == [("tool_use", "weather", {"city"})]
        assert answer["stop_reason"] == "tool_use"


async def test_schema(ask):
    assert set(json.loads((await ask("schema"))["content"][0]["text"])) == {"city", "count"}


async def test_images(ask, platform):
    assert (await ask("images"))["content"][0]["text"] == said(8)
    assert platform.scripts[0].requests[-1]["messages"][0]["images"] == [PIXEL]


async def test_thinking(ask):
    thought, text = (await ask("thinking"))["content"]
    assert (thought["thinking"], text["text"]) == (said(3, "hello there?"), said(8))


async def test_models(ask):
    told = await ask("models")
    assert "fake:words=3" in told["listed"]
    assert told["found"] == "fake:words=3"


async def test_errors_keep_their_kind(ask):
    told = await ask("errors")
    kinds = {name: (error["kind"], error["status"]) for name, error in told.items()}
    assert kinds == {
        "missing": ("NotFoundError", 404),
        "wrong": ("BadRequestError", 400),
        "nobody": ("AuthenticationError", 401),
        "failed": ("InternalServerError", 502),
        "broken": ("APIError", None),
    }
    assert "is not offered" in told["missing"]["message"]
    assert "broke off" in told["broken"]["message"]


async def test_cancel(ask, platform):
    await ask("cancel")
    await until(lambda: not platform.workers[0].node.running)


async def test_repeat(ask, spent):
    first, second = await ask("repeat")
    assert first == second == {"text": said(3), "job": first["job"]}
    assert await spent() == (1.0, 1)

"""The `openai` package for JavaScript."""

import json

import pytest

from tests.clients.apart import pinned_in_javascript
from tests.clients.compatibility import Client
from tests.clients.conftest import PIXEL, said
from tests.waiting import until

CLIENT = Client("openai (JavaScript)", pinned_in_javascript("openai"), '`new OpenAI({ baseURL: URL + "/v1", apiKey: KEY })`')


@pytest.fixture
def ask(asks, javascript):
    return asks(javascript, "openai")


async def test_chat(ask):
    answer = await ask("chat")
    choice = answer["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (said(3), "stop")
    assert (answer["usage"]["completion_tokens"], answer["usage"]["cost"]) == (3, "1.00")


async def test_stream(ask):
    *chunks, last = await ask("stream")
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == said(16)
    assert (last["choices"], last["usage"]["cost"]) == ([], "1.00")


async def test_limit_under_both_names(ask):
    for answer in await ask("limit"):
        assert (answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"]) == (said(2), "length")


async def test_tools(ask, platform):
    choice = (await ask("tools"))["choices"][0]
    function = choice["message"]["tool_calls"][0]["function"]
    assert (choice["finish_reason"], function["name"], json.loads(function["arguments"])) == ("tool_calls", "weather", {"city": "x"})
    _, assistant, tool = platform.scripts[0].requests[-1]["messages"]
    assert assistant["tool_calls"][0]["function"]["arguments"] == {"city": "x"}
    assert (tool["content"], tool["tool_name"]) == ("sunny", "weather")


async def test_tools_as_a_stream(ask):
    call = (await ask("toolsAsAStream"))["choices"][0]["message"]["tool_calls"][0]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("weather", {"city": "x"})


async def test_forced_tools_of_a_model_that_knows_none(ask):
    for answer in await ask("forced"):
        choice = answer["choices"][0]
        function = choice["message"]["tool_calls"][0]["function"]
        assert (choice["finish_reason"], function["name"], set(json.loads(function["arguments"]))) == ("tool_calls", "weather", {"city"})


async def test_schema(ask):
    answer = await ask("schema")
    assert set(json.loads(answer["choices"][0]["message"]["content"])) == {"city", "count"}


async def test_logprobs(ask):
    answer = await ask("logprobs")
    assert [one["logprob"] for one in answer["choices"][0]["logprobs"]["content"]] == [-0.5] * 3


async def test_images(ask, platform):
    assert (await ask("images"))["choices"][0]["message"]["content"] == said(8)
    assert platform.scripts[0].requests[-1]["messages"][0]["images"] == [PIXEL]


async def test_thinking(ask):
    message = (await ask("thinking"))["choices"][0]["message"]
    assert (message["reasoning"], message["content"]) == (said(3, "hello there?"), said(8))


async def test_embeddings(ask):
    packed, plain = await ask("embeddings")
    assert [len(row["embedding"]) for row in packed["data"]] == [576, 576]
    assert packed["data"][0]["embedding"] == pytest.approx(plain["data"][0]["embedding"], abs=1e-6)


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

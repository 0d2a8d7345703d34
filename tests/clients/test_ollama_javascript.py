"""The `ollama` package for JavaScript."""

import json

import pytest

from tests.clients.apart import pinned_in_javascript
from tests.clients.compatibility import Client
from tests.clients.conftest import HEADERS_ARE_THE_CLIENTS, PIXEL, said
from tests.waiting import until

CLIENT = Client(
    "ollama (JavaScript)", pinned_in_javascript("ollama"), '`new Ollama({ host: URL, headers: { Authorization: "Bearer " + KEY } })`',
    absent={"forced": "Ollama's API has none"}, noted={"repeat": HEADERS_ARE_THE_CLIENTS},
)  # fmt: skip


@pytest.fixture
def ask(asks, javascript):
    return asks(javascript, "ollama")


async def test_chat(ask):
    answer = await ask("chat")
    assert (answer["message"]["content"], answer["done_reason"], answer["eval_count"]) == (said(3), "stop", 3)
    assert answer["gfe"]["cost"] == "1.00"


async def test_stream(ask):
    pieces = await ask("stream")
    assert "".join(piece["message"]["content"] for piece in pieces) == said(16)
    assert (pieces[-1]["done"], pieces[-1]["eval_count"]) == (True, 16)


async def test_limit(ask):
    answer = await ask("limit")
    assert (answer["message"]["content"], answer["done_reason"]) == (said(2), "length")


async def test_tools(ask, platform):
    answer = await ask("tools")
    function = answer["message"]["tool_calls"][0]["function"]
    assert (function["name"], function["arguments"]) == ("weather", {"city": "x"})
    _, assistant, tool = platform.scripts[0].requests[-1]["messages"]
    assert assistant["tool_calls"][0]["function"]["arguments"] == {"city": "x"}
    assert (tool["content"], tool["tool_name"]) == ("sunny", "weather")


async def test_schema(ask):
    assert set(json.loads((await ask("schema"))["message"]["content"])) == {"city", "count"}


async def test_logprobs(ask):
    assert [one["logprob"] for one in (await ask("logprobs"))["logprobs"]] == [-0.5] * 3


async def test_images(ask, platform):
    assert (await ask("images"))["message"]["content"] == said(8)
    assert platform.scripts[0].requests[-1]["messages"][0]["images"] == [PIXEL]


async def test_thinking(ask):
    message = (await ask("thinking"))["message"]
    assert (message["thinking"], message["content"]) == (said(3, "hello there?"), said(8))


async def test_embeddings(ask):
    assert [len(vector) for vector in (await ask("embeddings"))["embeddings"]] == [576, 576]


async def test_models(ask):
    told = await ask("models")
    assert "fake:words=3" in told["listed"]
    assert "fake:words=3" in told["running"]
    assert told["found"]["model_info"]["general.architecture"] == "fake"


async def test_errors_keep_their_kind(ask):
    told = await ask("errors")
    kinds = {name: (error["kind"], error["status"]) for name, error in told.items()}
    assert kinds == {"missing": ("ResponseError", 404), "nobody": ("ResponseError", 401), "broken": ("Error", None)}
    assert "not found" in told["missing"]["message"]
    assert "broke off" in told["broken"]["message"]


async def test_cancel(ask, platform):
    await ask("cancel")
    await until(lambda: not platform.workers[0].node.running)


async def test_repeat(ask, spent):
    first, second = await ask("repeat")
    assert ["".join(piece["message"]["content"] for piece in pieces) for pieces in (first, second)] == [said(3)] * 2
    assert first[-1]["gfe"] == second[-1]["gfe"]
    assert await spent() == (1.0, 1)

"""LiteLLM, through its providers `openai/`, `ollama_chat/` and `anthropic/`: asked and answered in OpenAI's form, whatever is spoken to us."""

import json

import pytest

from tests.clients.apart import pinned_apart
from tests.clients.compatibility import Client
from tests.clients.conftest import PIXEL, said
from tests.waiting import until

VERSION = pinned_apart("litellm")
ALLOWED = 'LiteLLM sends `reasoning_effort` for models that it does not know only with `allowed_openai_params=["reasoning_effort"]`'
CLIENTS = {
    "openai": Client(
        "litellm openai/", VERSION, '`completion("openai/MODEL", api_base=URL + "/v1", api_key=KEY, …)`', noted={"thinking": ALLOWED}
    ),
    "ollama_chat": Client(
        "litellm ollama_chat/", VERSION, '`completion("ollama_chat/MODEL", api_base=URL, api_key=KEY, …)`',
        absent={
            "forced": "Ollama's API has none",
            "logprobs": "LiteLLM asks no Ollama for them; use `openai/`",
            "embeddings": "LiteLLM sends no key with Ollama's embeddings; use `openai/`",
        },
    ),
    "anthropic": Client(
        "litellm anthropic/", VERSION, '`completion("anthropic/MODEL", api_base=URL, api_key=KEY, …)`',
        absent={"logprobs": "Anthropic's API has none", "embeddings": "Anthropic's API has none"},
        noted={"thinking": ALLOWED},
    ),
}  # fmt: skip
every = pytest.mark.parametrize("provider", CLIENTS)


@pytest.fixture
def ask(asks, litellm, provider):
    return asks(litellm, provider)


@every
async def test_chat(ask):
    answer = await ask("chat")
    choice = answer["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"], answer["usage"]["completion_tokens"]) == (said(3), "stop", 3)


@every
async def test_stream(ask):
    chunks = await ask("stream")
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]) == said(16)
    assert chunks[-1]["usage"]["completion_tokens"] == 16


@every
async def test_limit(ask):
    choice = (await ask("limit"))["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (said(2), "length")


@every
async def test_tools(ask, platform):
    choice = (await ask("tools"))["choices"][0]
    function = choice["message"]["tool_calls"][0]["function"]
    assert (choice["finish_reason"], function["name"], json.loads(function["arguments"])) == ("tool_calls", "weather", {"city": "x"})
    _, assistant, tool = platform.scripts[0].requests[-1]["messages"]
    assert assistant["tool_calls"][0]["function"]["arguments"] == {"city": "x"}
    assert (tool["role"], tool["content"]) == ("tool", "sunny")


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_forced_tools_of_a_model_that_knows_none(ask):
    for answer in await ask("forced"):
        choice = answer["choices"][0]
        function = choice["message"]["tool_calls"][0]["function"]
        assert (choice["finish_reason"], function["name"], set(json.loads(function["arguments"]))) == ("tool_calls", "weather", {"city"})


@every
async def test_schema(ask):
    assert set(json.loads((await ask("schema"))["choices"][0]["message"]["content"])) == {"city", "count"}


@pytest.mark.parametrize("provider", ["openai"])
async def test_logprobs(ask):
    answer = await ask("logprobs")
    assert [one["logprob"] for one in answer["choices"][0]["logprobs"]["content"]] == [-0.5] * 3


@every
async def test_images(ask, platform):
    assert (await ask("images"))["choices"][0]["message"]["content"] == said(8)
    assert platform.scripts[0].requests[-1]["messages"][0]["images"] == [PIXEL]


@every
async def test_thinking(ask):
    message = (await ask("thinking"))["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == (said(3, "hello there?"), said(8))


@pytest.mark.parametrize("provider", ["openai"])
async def test_embeddings(ask):
    assert [len(row["embedding"]) for row in (await ask("embeddings"))["data"]] == [576, 576]


@pytest.mark.parametrize("provider", ["ollama_chat"])
async def test_no_key_comes_with_ollamas_embeddings(ask):
    assert (await ask("keyless"))["kind"] == "AuthenticationError"


@every
async def test_models(ask):
    assert any(name.endswith("fake:words=3") for name in await ask("models"))


@every
async def test_errors_keep_their_kind(ask, provider):
    told = await ask("errors")
    kinds = {name: (error["kind"], error["status"]) for name, error in told.items()}
    assert kinds == {
        "missing": ("NotFoundError", 404),
        "nobody": ("AuthenticationError", 401),
        "failed": ("BadGatewayError", 502),
        "broken": ("BadRequestError", 400) if provider == "ollama_chat" else ("MidStreamFallbackError", 500),  # LiteLLM's own words
    }
    assert ("not found" if provider == "ollama_chat" else "is not offered") in told["missing"]["message"]
    assert "broke off" in told["broken"]["message"]


@every
async def test_cancel(ask, platform):
    await ask("cancel")
    await until(lambda: not platform.workers[0].node.running)


@every
async def test_repeat(ask, spent):
    first, second = await ask("repeat")
    assert first["choices"][0]["message"]["content"] == second["choices"][0]["message"]["content"] == said(3)
    assert await spent() == (1.0, 1)

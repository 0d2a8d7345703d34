"""The `anthropic` package for Python."""

import json
from importlib.metadata import version

import anthropic
import pytest

from tests.clients.compatibility import Client
from tests.clients.conftest import HELLO, PIXEL, SCHEMA, TOOL, said
from tests.waiting import until

CLIENT = Client(
    "anthropic (Python)", version("anthropic"), "`Anthropic(base_url=URL, api_key=KEY)`",
    {"logprobs": "Anthropic's API has none", "embeddings": "Anthropic's API has none"},
)  # fmt: skip
FUNCTION = {"name": "weather", "description": "", "input_schema": TOOL["function"]["parameters"]}
OTHER = {"name": "ping", "description": "", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture
async def client(platform):
    async with anthropic.AsyncAnthropic(base_url=platform.url, api_key=platform.key, max_retries=0) as client:
        yield client


async def test_chat(client):
    answer = await client.messages.create(model="fake:words=3", max_tokens=100, messages=HELLO, system="be short")
    assert (answer.content[0].text, answer.stop_reason, answer.usage.output_tokens, answer.usage.cost) == (said(3), "end_turn", 3, "1.00")


async def test_stream(client):
    async with client.messages.stream(model="fake:words=16", max_tokens=100, messages=HELLO) as stream:
        assert "".join([text async for text in stream.text_stream]) == said(16)
        final = await stream.get_final_message()
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 16)


async def test_limit(client):
    answer = await client.messages.create(model="fake:words=16", max_tokens=2, messages=HELLO)
    assert (answer.content[0].text, answer.stop_reason) == (said(2), "max_tokens")
    with pytest.raises(anthropic.BadRequestError, match="max_tokens is required"):
        await client.messages.create(model="fake:words=16", max_tokens=0, messages=HELLO)


async def test_tools(client, platform):
    answer = await client.messages.create(model="fake:tools", max_tokens=100, messages=HELLO, tools=[FUNCTION])
    use = answer.content[0]
    assert (answer.stop_reason, use.type, use.name, use.input) == ("tool_use", "tool_use", "weather", {"city": "x"})
    turn = [
        *HELLO,
        {"role": "assistant", "content": [use.model_dump()]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "sunny"}]}]},
    ]
    await client.messages.create(model="fake:words=3", max_tokens=100, messages=turn)
    _, assistant, tool = platform.scripts[0].requests[-1]["messages"]
    assert assistant["tool_calls"][0]["function"] == {"name": "weather", "arguments": {"city": "x"}}
    assert (tool["role"], tool["content"], tool["tool_name"]) == ("tool", "sunny", "weather")


async def test_tools_as_a_stream(client):
    async with client.messages.stream(model="fake:tools", max_tokens=100, messages=HELLO, tools=[FUNCTION]) as stream:
        final = await stream.get_final_message()
    assert (final.content[0].input, final.stop_reason) == ({"city": "x"}, "tool_use")


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}])
async def test_forced_tools_of_a_model_that_knows_none(client, choice):
    asked = {"model": "fake:words=3", "max_tokens": 100, "messages": HELLO, "tools": [OTHER, FUNCTION], "tool_choice": choice}
    answer = await client.messages.create(**asked)
    async with client.messages.stream(**asked) as stream:
        final = await stream.get_final_message()
    for one in (answer, final):
        assert [(block.type, block.name, set(block.input)) for block in one.content] == [("tool_use", "weather", {"city"})]
        assert one.stop_reason == "tool_use"


async def test_forced_tools_that_are_cut_have_what_came_of_them(client):
    asked = {"model": "fake:words=3", "messages": HELLO, "tools": [FUNCTION], "tool_choice": {"type": "any"}}
    answer = await client.messages.create(max_tokens=1, **asked)
    assert [(block.name, block.input) for block in answer.content] == [("weather", {})]
    assert answer.stop_reason == "max_tokens"


async def test_schema(client):
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = await client.messages.create(model="fake:words=3", max_tokens=100, messages=HELLO, output_config=form)
    assert set(json.loads(answer.content[0].text)) == {"city", "count"}
    older = {"output_format": form["format"]}
    answer = await client.messages.create(model="fake:words=3", max_tokens=100, messages=HELLO, extra_body=older)
    assert set(json.loads(answer.content[0].text)) == {"city", "count"}
    form["format"]["type"] = "grammar"
    with pytest.raises(anthropic.BadRequestError, match="json_schema"):
        await client.messages.create(model="fake:words=3", max_tokens=100, messages=HELLO, output_config=form)


async def test_thinking_is_told_where_it_was_asked_for(client):
    wished = {"type": "enabled", "budget_tokens": 1024}
    answer = await client.messages.create(model="fake:thinks", max_tokens=2000, messages=HELLO, thinking=wished)
    assert [block.type for block in answer.content] == ["thinking", "text"]
    plain = await client.messages.create(model="fake:thinks", max_tokens=2000, messages=HELLO)
    assert [block.type for block in plain.content] == ["text"]
    effort = await client.messages.create(model="fake:thinks", max_tokens=2000, messages=HELLO, output_config={"effort": "low"})
    assert [block.type for block in effort.content] == ["thinking", "text"]
    with pytest.raises(anthropic.BadRequestError, match="does not support thinking"):
        await client.messages.create(model="fake:words=3", max_tokens=2000, messages=HELLO, output_config={"effort": "low"})
    dull = await client.messages.create(model="fake:words=3", max_tokens=2000, messages=HELLO, thinking=wished)
    assert dull.content[0].text == said(3)


async def test_images(client, platform):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    parts = [image, {"type": "text", "text": "hello there"}]
    await client.messages.create(model="fake:sees", max_tokens=100, messages=[{"role": "user", "content": parts}])
    assert platform.scripts[0].requests[-1]["messages"][0]["images"] == [PIXEL]


async def test_counting_tokens(platform_with):
    platform = await platform_with(has_tokenizer=True)
    async with anthropic.AsyncAnthropic(base_url=platform.url, api_key=platform.key) as client:
        short = (await client.messages.count_tokens(model="fake:words=3", messages=HELLO)).input_tokens
        long = (await client.messages.count_tokens(model="fake:words=3", messages=[*HELLO, *HELLO, *HELLO])).input_tokens
    assert 0 < short < long


async def test_models(client):
    assert "fake:words=3" in [model.id async for model in client.models.list()]
    assert (await client.models.retrieve("fake:words=3")).display_name == "fake:words=3"


async def test_errors_keep_their_kind(client):
    with pytest.raises(anthropic.NotFoundError, match="is not offered"):
        await client.messages.create(model="nothing", max_tokens=10, messages=HELLO)
    with pytest.raises(anthropic.AuthenticationError):
        await client.with_options(api_key="gfe_live_nobody").messages.create(model="fake:words=3", max_tokens=10, messages=HELLO)
    with pytest.raises(anthropic.BadRequestError, match="names 'nothing', `tools` are weather"):
        await client.messages.create(
            model="fake:tools", max_tokens=10, messages=HELLO, tools=[FUNCTION], tool_choice={"type": "tool", "name": "nothing"}
        )


async def test_cancel_by_leaving_a_stream(client, platform):
    async with client.messages.stream(model="fake:drip=0.1", max_tokens=100, messages=HELLO) as stream:
        async for _ in stream.text_stream:
            break
    await until(lambda: not platform.workers[0].node.running)


async def test_repeat(client, idempotency_key, spent):
    async def once():
        named = {"Idempotency-Key": idempotency_key}
        asking = client.messages.with_raw_response.create(model="fake:words=3", max_tokens=100, messages=HELLO, extra_headers=named)
        answer = await asking
        return (await answer.parse()).content[0].text, answer.headers["x-gfe-job"]

    assert await once() == await once()
    assert await spent() == (1.0, 1)

"""The `openai` package for Python."""

import json
from importlib.metadata import version

import openai
import pytest

from tests.clients.compatibility import Client
from tests.clients.conftest import HELLO, OTHER_TOOL, PIXEL, SCHEMA, TOOL, said
from tests.waiting import until

CLIENT = Client("openai (Python)", version("openai"), '`OpenAI(base_url=URL + "/v1", api_key=KEY)`')


@pytest.fixture
async def client(platform):
    async with openai.AsyncOpenAI(base_url=f"{platform.url}/v1", api_key=platform.key, max_retries=0) as client:
        yield client


async def test_chat(client):
    answer = await client.chat.completions.create(model="fake:words=3", messages=HELLO)
    assert answer.choices[0].message.content == said(3)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens, answer.usage.cost) == ("stop", 3, "1.00")


async def test_stream(client):
    stream = await client.chat.completions.create(model="fake:words=3", messages=HELLO, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == said(3)
    assert (chunks[-1].choices, chunks[-1].usage.cost) == ([], "1.00")
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("limit", [{"max_tokens": 2}, {"max_completion_tokens": 2}])
async def test_limit_under_both_names(client, limit):
    answer = await client.chat.completions.create(model="fake:words=16", messages=HELLO, **limit)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (said(2), "length")


async def test_tools(client, platform):
    answer = await client.chat.completions.create(model="fake:tools", messages=HELLO, tools=[TOOL])
    call = answer.choices[0].message.tool_calls[0]
    assert (answer.choices[0].finish_reason, call.function.name) == ("tool_calls", "weather")
    assert json.loads(call.function.arguments) == {"city": "x"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    await client.chat.completions.create(
        model="fake:tools", messages=[*HELLO, answer.choices[0].message, result], tools=[TOOL], tool_choice="none"
    )
    _, assistant, tool = platform.scripts[0].requests[-1]["messages"]
    assert assistant["tool_calls"][0]["function"]["arguments"] == {"city": "x"}
    assert tool["tool_name"] == "weather"


async def test_tools_as_a_stream(client):
    stream = await client.chat.completions.create(model="fake:tools", messages=HELLO, tools=[TOOL], stream=True)
    chunks = [chunk async for chunk in stream]
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [(call.index, call.function.name) for call in calls] == [(0, "weather")]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
async def test_forced_tools_of_a_model_that_knows_none(client, choice):
    asked = {"model": "fake:words=3", "messages": HELLO, "tools": [OTHER_TOOL, TOOL], "tool_choice": choice, "parallel_tool_calls": False}
    answer = await client.chat.completions.create(**asked)
    async with client.chat.completions.stream(**asked) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    for one in (answer, final):
        call = one.choices[0].message.tool_calls[0]
        assert (one.choices[0].finish_reason, call.function.name, set(json.loads(call.function.arguments))) == (
            "tool_calls",
            "weather",
            {"city"},
        )
    assert "tool_calls.function.arguments.delta" in kinds


async def test_forced_tools_of_a_response(client):
    tools = [{"type": "function", **one["function"]} for one in (OTHER_TOOL, TOOL)]
    for choice in ("required", {"type": "function", "name": "weather"}):
        asked = {"model": "fake:words=3", "input": "hello there", "tools": tools, "tool_choice": choice}
        answer = await client.responses.create(**asked)
        async with client.responses.stream(**asked) as stream:
            final = await stream.get_final_response()
        for one in (answer, final):
            assert [(item.type, item.name, set(json.loads(item.arguments))) for item in one.output] == [
                ("function_call", "weather", {"city"})
            ]


async def test_forced_tools_are_among_the_tools(client):
    choice = {"type": "function", "function": {"name": "nothing"}}
    with pytest.raises(openai.BadRequestError, match="names 'nothing', `tools` are weather"):
        await client.chat.completions.create(model="fake:words=3", messages=HELLO, tools=[TOOL], tool_choice=choice)


async def test_schema(client):
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    answer = await client.chat.completions.create(model="fake:words=3", messages=HELLO, response_format=form)
    assert set(json.loads(answer.choices[0].message.content)) == {"city", "count"}


async def test_logprobs(client):
    answer = await client.chat.completions.create(model="fake:words=3", messages=HELLO, logprobs=True, top_logprobs=2)
    assert [one.logprob for one in answer.choices[0].logprobs.content] == [-0.5] * 3
    stream = await client.chat.completions.create(model="fake:words=3", messages=HELLO, logprobs=True, stream=True)
    told = [chunk.choices[0].logprobs async for chunk in stream]
    assert "".join(one.token for logprobs in told if logprobs for one in logprobs.content) == said(3)


async def test_images(client, platform):
    parts = [{"type": "text", "text": "hello there"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]
    answer = await client.chat.completions.create(model="fake:sees", messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == said(8)
    assert platform.scripts[0].requests[-1]["messages"][0]["images"] == [PIXEL]
    with pytest.raises(openai.BadRequestError, match="does not support vision"):
        await client.chat.completions.create(model="fake:words=3", messages=[{"role": "user", "content": parts}])
    parts[1]["image_url"]["url"] = "https://example.org/a.png"
    with pytest.raises(openai.BadRequestError, match="data URL"):
        await client.chat.completions.create(model="fake:sees", messages=[{"role": "user", "content": parts}])


async def test_thinking(client):
    answer = await client.chat.completions.create(model="fake:thinks", messages=HELLO, reasoning_effort="low")
    assert answer.choices[0].message.reasoning == said(3, "hello there?")
    assert answer.choices[0].message.content == said(8)
    with pytest.raises(openai.BadRequestError, match="does not support thinking"):
        await client.chat.completions.create(model="fake:words=3", messages=HELLO, reasoning_effort="high")


async def test_completions(client):
    answer = await client.completions.create(model="fake:words=3", prompt="hello there", logprobs=1)
    assert (answer.choices[0].text, answer.choices[0].finish_reason, answer.usage.cost) == (said(3), "stop", "1.00")
    assert len(answer.choices[0].logprobs.token_logprobs) == 3
    stream = await client.completions.create(model="fake:words=3", prompt="hello there", stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == said(3)


async def test_embeddings(client):
    answer = await client.embeddings.create(model="fake:embeds", input=["one", "two"])  # asks for base64 by itself
    floats = await client.embeddings.create(model="fake:embeds", input="one", encoding_format="float")
    assert [len(row.embedding) for row in answer.data] == [576, 576]
    assert answer.data[0].embedding == pytest.approx(floats.data[0].embedding, abs=1e-6)
    assert floats.usage.cost == "1.00"
    with pytest.raises(openai.BadRequestError, match="does not support embedding"):
        await client.embeddings.create(model="fake:words=3", input="one")


async def test_responses(client):
    answer = await client.responses.create(model="fake:words=3", input="hello there", instructions="be short")
    assert (answer.status, answer.output_text, answer.usage.cost) == ("completed", said(3), "1.00")
    cut = await client.responses.create(model="fake:words=16", input=HELLO, max_output_tokens=2)
    assert (cut.status, cut.incomplete_details.reason, cut.output_text) == ("incomplete", "max_output_tokens", said(2))
    with pytest.raises(openai.BadRequestError, match="nothing is kept"):
        await client.responses.create(model="fake:words=3", input="hello", previous_response_id="resp_1")


async def test_responses_as_a_stream(client):
    async with client.responses.stream(model="fake:thinks", input="hello there") as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert final.output_text == said(8)
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert (kinds[:3], kinds[-1]) == (
        ["response.created", "response.in_progress", "response.output_item.added"],
        "response.completed",
    )


async def test_responses_call_functions(client, platform):
    tool = {"type": "function", **TOOL["function"]}
    answer = await client.responses.create(model="fake:tools", input="hello there", tools=[tool])
    call = answer.output[0]
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", {"city": "x"})
    items = [*HELLO, call.model_dump(), {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
    await client.responses.create(model="fake:words=3", input=items)
    assert platform.scripts[0].requests[-1]["messages"][-1]["tool_name"] == "weather"


async def test_models(client):
    assert "fake:words=3" in [model.id async for model in client.models.list()]
    assert (await client.models.retrieve("fake:words=3")).id == "fake:words=3"
    with pytest.raises(openai.NotFoundError, match="is not offered"):
        await client.models.retrieve("somebody/nothing:1b")


async def test_errors_keep_their_kind(client, platform):
    with pytest.raises(openai.NotFoundError, match="is not offered"):
        await client.chat.completions.create(model="nothing", messages=HELLO)
    with pytest.raises(openai.BadRequestError, match="messages"):
        await client.chat.completions.create(model="fake:words=3", messages=[])
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="gfe_live_nobody").chat.completions.create(model="fake:words=3", messages=HELLO)
    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(model="fake:500", messages=HELLO)


async def test_cancel_by_leaving_a_stream(client, platform):
    stream = await client.chat.completions.create(model="fake:drip=0.1", messages=HELLO, stream=True)
    async for _ in stream:
        break
    await stream.close()
    await until(lambda: not platform.workers[0].node.running)


async def test_repeat(client, idempotency_key, spent):
    async def once():
        named = {"Idempotency-Key": idempotency_key}
        answer = await client.chat.completions.with_raw_response.create(model="fake:words=3", messages=HELLO, extra_headers=named)
        return answer.parse().choices[0].message.content, answer.headers["x-gfe-job"]

    assert await once() == await once()
    assert await spent() == (1.0, 1)

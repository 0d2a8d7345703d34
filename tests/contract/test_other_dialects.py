"""Numbers 45 to 52: OpenAI's and Anthropic's dialects where Ollama serves them too, through these companies' own clients.

Number 53, a tool that must be called, is ours: Ollama lets `tool_choice` pass unread.
"""

import json

import anthropic
import jsonschema
import openai
import pytest

from tests.contract.ollama_runtimes import EMBED_BY_CHAT_MODEL, FORCE_TOOLS, PARIS, SPEAK_OTHERS


@pytest.fixture
def client(runtime):
    runtime.needs(SPEAK_OTHERS)
    key = runtime.headers.get("Authorization", "Bearer none").removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{runtime.url}/v1", api_key=key, max_retries=0) as client:
        yield client


@pytest.fixture
def anthropics(runtime):
    runtime.needs(SPEAK_OTHERS)
    key = runtime.headers.get("Authorization", "Bearer none").removeprefix("Bearer ")
    with anthropic.Anthropic(base_url=runtime.url, api_key=key, max_retries=0) as client:
        yield client


def events_of(runtime, path, body):
    """The data of a stream's events."""
    with runtime.http.stream("POST", path, json=body | {"model": runtime.model, "stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]


STEADY = {"temperature": 0, "seed": 1}


def test_45_v1_chat_and_default_nonstream(runtime, client):
    answer = client.chat.completions.create(model=runtime.model, messages=PARIS, max_tokens=16, **STEADY)
    assert runtime.says(answer.choices[0].message.content)
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens > 0
    assert (answer.object, answer.model) == ("chat.completion", runtime.model)


def test_46_v1_chat_stream_usage_done(runtime):
    runtime.needs(SPEAK_OTHERS)
    body = {"messages": PARIS, "max_tokens": 16, "stream_options": {"include_usage": True}} | STEADY
    *events, done = events_of(runtime, "/v1/chat/completions", body)
    chunks = [json.loads(event) for event in events]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert done == "[DONE]"
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert "role" in deltas[0]
    assert runtime.says("".join(delta.get("content") or "" for delta in deltas))
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]][-1] in {"stop", "length"}
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"] > 0) == ([], True)


def test_47_v1_errors_shape(runtime):
    runtime.needs(SPEAK_OTHERS)
    missing = runtime.post("/v1/chat/completions", {"model": "gfe-nobody-has-this:1b", "messages": PARIS})
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    empty = runtime.post("/v1/chat/completions", {"model": runtime.model, "messages": []})
    assert (empty.status_code, empty.json()["error"]["type"]) == (400, "invalid_request_error")
    assert {"message", "type", "param", "code"} <= set(empty.json()["error"])


def test_48_v1_completions(runtime, client):
    answer = client.completions.create(model=runtime.model, prompt=PARIS[0]["content"], max_tokens=8, **STEADY)
    assert answer.object == "text_completion"
    assert answer.choices[0].text
    stream = client.completions.create(model=runtime.model, prompt=PARIS[0]["content"], max_tokens=8, stream=True, **STEADY)
    assert "".join(chunk.choices[0].text for chunk in stream) == answer.choices[0].text


def test_49_v1_embeddings_float_base64(runtime, client):
    runtime.needs(EMBED_BY_CHAT_MODEL)
    floats = client.embeddings.create(model=runtime.model, input=["one", "two"], encoding_format="float")
    packed = client.embeddings.create(model=runtime.model, input=["one", "two"])  # the client asks for base64
    assert [row.index for row in floats.data] == [0, 1]
    assert packed.data[1].embedding == pytest.approx(floats.data[1].embedding, abs=1e-5)
    assert sum(value * value for value in floats.data[0].embedding) == pytest.approx(1, abs=1e-3)


def test_50_v1_models_list_and_get(runtime, client):
    assert runtime.model in [model.id for model in client.models.list()]
    assert client.models.retrieve(runtime.model).owned_by
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gfe/nobody-has-this:1b")


def test_51_v1_responses_events(runtime):
    runtime.needs(SPEAK_OTHERS)
    events = [json.loads(event) for event in events_of(runtime, "/v1/responses", {"input": PARIS[0]["content"], "max_output_tokens": 64, "temperature": 0})]  # fmt: skip
    kinds = [event["type"] for event in events]
    assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert kinds[-4:-1] == ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
    assert kinds[-1] in {"response.completed", "response.incomplete"}
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"]["usage"]["output_tokens"] > 0


def test_52_v1_messages(runtime, anthropics):
    asked = {"model": runtime.model, "messages": PARIS}
    steady = {"extra_body": {"temperature": 0}}
    answer = anthropics.messages.create(max_tokens=16, **asked, **steady)
    assert runtime.says(answer.content[0].text)
    assert answer.stop_reason in {"end_turn", "max_tokens"}
    with anthropics.messages.stream(max_tokens=16, **asked, **steady) as stream:
        assert "".join(stream.text_stream) == answer.content[0].text
    refused = runtime.post("/v1/messages", asked)
    assert (refused.status_code, refused.json()["type"], refused.json()["error"]["type"]) == (400, "error", "invalid_request_error")


ANSWER_ARGUMENTS = {
    "type": "object", "properties": {"city": {"enum": ["Paris", "Rome", "Oslo"]}, "sure": {"type": "boolean"}}, "required": ["city", "sure"],
}  # fmt: skip
ORDER_ARGUMENTS = {
    "type": "object", "required": ["items"],
    "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/Item"}, "minItems": 3, "maxItems": 3}},
    "$defs": {"Item": {"type": "object", "properties": {"kind": {"enum": ["tea", "bread"]}, "count": {"enum": [1, 2, 3]}}, "required": ["kind", "count"]}},
}  # fmt: skip
SCHEMAS = {"tell_city": ANSWER_ARGUMENTS, "order": ORDER_ARGUMENTS}


def follow(calls, *names):
    """Whether there is one call, of one of these tools, with arguments that its schema describes."""
    [(name, arguments)] = calls
    assert name in names
    jsonschema.validate(json.loads(arguments) if isinstance(arguments, str) else arguments, SCHEMAS[name])
    return True


@pytest.mark.parametrize("name", [*SCHEMAS, None])
def test_53_v1_chat_forced_tool(runtime, client, name):
    runtime.needs(FORCE_TOOLS)
    tools = [{"type": "function", "function": {"name": tool, "parameters": schema}} for tool, schema in SCHEMAS.items()]
    choice = {"type": "function", "function": {"name": name}} if name else "required"
    asked = {"model": runtime.model, "messages": PARIS, "tools": tools, "tool_choice": choice, "max_tokens": 200} | STEADY
    answer = client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion()
    for one in (answer, streamed):
        assert follow(
            [(call.function.name, call.function.arguments) for call in one.choices[0].message.tool_calls], *([name] if name else SCHEMAS)
        )
        assert (one.choices[0].finish_reason, one.choices[0].message.content or "") == ("tool_calls", "")


def test_53_v1_chat_forced_tool_cut(runtime, client):
    runtime.needs(FORCE_TOOLS)
    tools = [{"type": "function", "function": {"name": "order", "parameters": ORDER_ARGUMENTS}}]
    asked = {"model": runtime.model, "messages": PARIS, "tools": tools, "tool_choice": "required", "max_tokens": 10} | STEADY
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.tool_calls[0].function.arguments.startswith("{")
    with pytest.raises(json.JSONDecodeError):
        json.loads(choice.message.tool_calls[0].function.arguments)


@pytest.mark.parametrize("choice", [{"type": "tool", "name": "order"}, {"type": "any"}])
def test_53_v1_messages_forced_tool(runtime, anthropics, choice):
    runtime.needs(FORCE_TOOLS)
    tools = [{"name": tool, "input_schema": schema} for tool, schema in SCHEMAS.items()]
    asked = {"model": runtime.model, "messages": PARIS, "tools": tools, "tool_choice": choice, "max_tokens": 200}
    answer = anthropics.messages.create(**asked, extra_body={"temperature": 0})
    with anthropics.messages.stream(**asked, extra_body={"temperature": 0}) as stream:
        streamed = stream.get_final_message()
    for one in (answer, streamed):
        assert follow([(block.name, block.input) for block in one.content], *([choice["name"]] if "name" in choice else SCHEMAS))
        assert one.stop_reason == "tool_use"


@pytest.mark.parametrize("choice", [{"type": "function", "name": "tell_city"}, "required"])
def test_53_v1_responses_forced_tool(runtime, client, choice):
    runtime.needs(FORCE_TOOLS)
    tools = [{"type": "function", "name": tool, "parameters": schema, "strict": True} for tool, schema in SCHEMAS.items()]
    asked = {
        "model": runtime.model,
        "input": PARIS[0]["content"],
        "tools": tools,
        "tool_choice": choice,
        "max_output_tokens": 200,
        "temperature": 0,
    }
    answer = client.responses.create(**asked)
    with client.responses.stream(**asked) as stream:
        streamed = stream.get_final_response()
    for one in (answer, streamed):
        assert follow([(item.name, item.arguments) for item in one.output], *(["tell_city"] if choice != "required" else SCHEMAS))
        assert one.status == "completed"

"""Numbers 45 to 52: OpenAI's and Anthropic's dialects where Ollama serves them too, through these companies' own clients."""

import json

import anthropic
import openai
import pytest

from tests.contract.ollama_runtimes import EMBED_BY_CHAT_MODEL, PARIS, SPEAK_OTHERS


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

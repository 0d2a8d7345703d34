"""A tool that must be called: the schema that a model is held to, what it is told, and the call that its text is."""

import json
from datetime import UTC, datetime

import pytest

from cluster.dialects.answer import Ending, Head
from cluster.dialects.calls import calls_in, object_of
from cluster.dialects.table import DIALECTS
from cluster.errors import InvalidRequest
from cluster.jobs import EndReason, Text
from cluster.prompt_size import most_tokens

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ITEM = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
ORDER = {"type": "object", "$defs": {"Item": ITEM}, "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/Item"}}}}
HELLO = [{"role": "user", "content": "hello"}]
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"


def tool(path, name, parameters):
    """A tool as a dialect writes it."""
    if path == CHAT:
        return {"type": "function", "function": {"name": name, "description": f"a {name}", "parameters": parameters}}
    rest = {"name": name, "description": f"a {name}"}
    return rest | {"input_schema": parameters} if path == MESSAGES else rest | {"type": "function", "parameters": parameters}


def named(path, name):
    """The choice of one tool as a dialect writes it."""
    kind = "tool" if path == MESSAGES else "function"
    return {"type": kind, "function": {"name": name}} if path == CHAT else {"type": kind, "name": name}


def any_of(path):
    return {"type": "any"} if path == MESSAGES else "required"


def body(path, choice, tools=(("weather", WEATHER), ("order", ORDER)), **more):
    said = {"input": "hello", "max_output_tokens": 50} if path == RESPONSES else {"messages": HELLO, "max_tokens": 50}
    return {"model": "m", "tools": [tool(path, *one) for one in tools], "tool_choice": choice} | said | more


def read(path, choice, *tools, **more):
    return DIALECTS[path].read(body(path, choice, *tools, **more))


every_path = pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])


# --- what is asked ------------------------------------------------------------------------------------------------------------------------


@every_path
def test_one_tool_is_the_schema_of_its_arguments_and_needs_no_model_that_knows_tools(path):
    asked = read(path, named(path, "weather"))
    assert (asked.request["format"], asked.forced) == (WEATHER, ("weather",))
    assert "tools" not in asked.request
    assert asked.capabilities == {"completion"}
    assert asked.request["think"] is False


@every_path
def test_the_model_is_told_the_tool_and_what_it_is_told_counts_as_prompt(path):
    asked, plain = read(path, named(path, "weather")), read(path, "none" if path != MESSAGES else {"type": "none"})
    system, user = asked.request["messages"]
    assert (system["role"], user["content"]) == ("system", "hello")
    assert json.loads(system["content"].splitlines()[-1]) == {"name": "weather", "description": "a weather", "parameters": WEATHER}
    assert "order" not in system["content"]
    assert most_tokens(asked.request) >= most_tokens(plain.request) + len(system["content"])


def test_what_the_client_says_as_the_system_stays_first():
    asked = read(CHAT, "required", messages=[{"role": "system", "content": "be brief"}, *HELLO])
    first, second = asked.request["messages"]
    assert first["content"].startswith("be brief\n\n")
    assert first["content"].count('"name": "weather"') == first["content"].count('"name": "order"') == 1
    assert second == {"role": "user", "content": "hello"}


@every_path
def test_of_several_tools_the_model_names_one_first(path):
    asked = read(path, any_of(path))
    assert asked.forced == ("weather", "order")
    calls, definitions = asked.request["format"]["anyOf"], asked.request["format"]["$defs"]
    assert [list(call["properties"]) for call in calls] == [["name", "arguments"]] * 2
    assert [call["properties"]["name"] for call in calls] == [{"const": "weather"}, {"const": "order"}]
    assert [call["properties"]["arguments"] for call in calls] == [{"$ref": "#/$defs/0"}, {"$ref": "#/$defs/1"}]
    assert definitions["0"] == WEATHER
    assert definitions["1"]["properties"]["items"]["items"] == {"$ref": "#/$defs/1/$defs/Item"}


@every_path
def test_any_of_one_tool_is_that_one(path):
    asked = read(path, any_of(path), [("order", ORDER)])
    assert (asked.request["format"], asked.forced) == (ORDER, ("order",))


@every_path
def test_a_tool_without_parameters_is_called_with_none(path):
    assert read(path, named(path, "ping"), [("ping", {})]).request["format"] == {
        "type": "object", "properties": {}, "additionalProperties": False,
    }  # fmt: skip


@every_path
def test_none_sends_no_tools_and_auto_sends_them(path):
    none, auto = ({"type": "none"}, {"type": "auto"}) if path == MESSAGES else ("none", "auto")
    assert "tools" not in read(path, none).request
    assert "format" not in read(path, auto).request
    assert [one["function"]["name"] for one in read(path, auto).request["tools"]] == ["weather", "order"]
    assert (read(path, auto).forced, read(path, none).forced) == ((), ())


@every_path
@pytest.mark.parametrize(
    ("choice", "tools", "words"),
    [
        ("nothing", [("weather", WEATHER), ("order", ORDER)], "names 'nothing', `tools` are weather, order"),
        ("weather", [], "there are no `tools`"),
        (None, [], "there are no `tools`"),
        ("text", [("text", {"type": "string"})], 'must be a JSON schema of type "object"'),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(path, choice, tools, words):
    with pytest.raises(InvalidRequest, match="tool") as refused:
        read(path, named(path, choice) if choice else any_of(path), tools)
    assert words in str(refused.value)


@pytest.mark.parametrize("choice", ["sometimes", {"type": "allowed_tools"}, {"type": "function"}, {"type": "custom", "name": "x"}, 7])
def test_another_kind_of_choice_is_refused(choice):
    for path in (CHAT, RESPONSES):
        with pytest.raises(InvalidRequest, match='"auto", "none", "required" or a function by its name'):
            read(path, choice)


def test_a_forced_tool_comes_before_another_format():
    schema = {"type": "json_schema", "schema": {"type": "object"}}
    form = {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}
    assert read(CHAT, "required", [("weather", WEATHER)], response_format=form).request["format"] == WEATHER
    assert read(MESSAGES, {"type": "any"}, [("weather", WEATHER)], output_config={"format": schema}).request["format"] == WEATHER
    assert read(RESPONSES, "required", [("weather", WEATHER)], text={"format": schema}).request["format"] == WEATHER


def test_calls_side_by_side_may_be_unwanted():
    assert read(CHAT, "auto", parallel_tool_calls=False).request["tools"]
    assert read(RESPONSES, "auto", parallel_tool_calls=False).echo["parallel_tool_calls"] is False
    assert read(MESSAGES, {"type": "auto", "disable_parallel_tool_use": True}).request["tools"]
    with pytest.raises(InvalidRequest, match="parallel_tool_calls"):
        read(CHAT, "auto", parallel_tool_calls="no")


@pytest.mark.parametrize(
    ("more", "think", "wanted"),
    [
        ({}, False, set()),
        ({"output_config": {"effort": "low"}}, "low", {"thinking"}),
        ({"output_config": {"effort": "max"}, "thinking": {"type": "adaptive"}}, "max", {"thinking"}),
        ({"output_config": {"effort": "high"}, "thinking": {"type": "disabled"}}, False, set()),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, None, set()),
    ],
)
def test_anthropics_effort_is_read_as_openais(more, think, wanted):
    asked = read(MESSAGES, {"type": "auto"}, [], **more)
    assert (asked.request.get("think"), asked.capabilities) == (think, {"completion"} | wanted)


def test_an_effort_that_nobody_knows_is_refused():
    with pytest.raises(InvalidRequest, match=r"output_config\.effort"):
        read(MESSAGES, {"type": "auto"}, [], output_config={"effort": "heroic"})


# --- what is answered ---------------------------------------------------------------------------------------------------------------------

ONE, SEVERAL = ("weather",), ("weather", "order")
ARGUMENTS = '{"city": "a {b} \\" c\\\\", "n": [1, {"x": 2}]}'
CHOSEN = f'{{\n "name" : "order", "arguments": {ARGUMENTS}\n}}'


def in_pieces(text, size):
    return [Text(seq=n, content=text[at : at + size]) for n, at in enumerate(range(0, len(text), size))]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("forced", "said", "name"), [(ONE, ARGUMENTS, "weather"), (SEVERAL, CHOSEN, "order")])
def test_the_text_is_the_call_however_it_is_cut(forced, said, name, size):
    calls = calls_in(forced, "job_1")
    told = [calls.take(text) for text in in_pieces(said, size)]
    pieces = [piece for _, found in told for piece in found]
    assert [piece.begins for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert {(piece.index, piece.id, piece.name) for piece in pieces} == {(0, "call_job_1", name)}
    assert "".join(piece.arguments for piece in pieces) == ARGUMENTS
    assert ("".join(content for content, _ in told), calls.rest(), calls.begun) == ("", "", 1)


@pytest.mark.parametrize(
    "said", ["I would rather not.", '{"name": "nobody", "arguments": {}}', '{"name": "wea', '{"name": "\\x", "arguments": {}}']
)
def test_what_is_no_call_is_told_as_text(said):
    """A runtime that does not know `format`, or an answer that ended before the tool was named."""
    content, calls = calls_in(SEVERAL, "job_1").whole(in_pieces(said, 4))
    assert (content, calls) == (said, [])


def test_a_text_that_is_no_call_is_not_kept_back_for_ever():
    calls = calls_in(SEVERAL, "job_1")
    told = "".join(calls.take(text)[0] for text in in_pieces("word " * 1000, 100))
    assert (told, calls.rest()) == ("word " * 1000, "")


@pytest.mark.parametrize(
    ("arguments", "read_as"),
    [
        (ARGUMENTS, json.loads(ARGUMENTS)),
        ('{"city": "Paris", "unit": "cel', {"city": "Paris"}),
        ('{"n": 12, "all": [1, {"x": 2}, {"x"', {"n": 12, "all": [1, {"x": 2}, {}]}),
        ('{"ci', {}),
        ("", {}),
        ("[1]", {}),
    ],
)
def test_of_arguments_that_were_cut_an_object_has_what_came_whole(arguments, read_as):
    assert object_of(arguments) == read_as


def answered(path, texts, reason=EndReason.STOP, *, stream=False, choice="weather"):
    """Write an answer: the object, or the events of a stream."""
    dialect = DIALECTS[path]
    asked = dialect.read(body(path, named(path, choice) if choice else any_of(path), stream=stream))
    writer = dialect.writer(asked, Head(job="job_1", model="m", created=1, now=lambda: datetime(2026, 1, 1, tzinfo=UTC)))
    ending = Ending(reason=reason, prompt_tokens=5, completion_tokens=3, counted_by="platform")
    if not stream:
        return writer.whole(texts, ending)
    said = writer.begin() + b"".join(map(writer.text, texts)) + writer.end(ending)
    return [json.loads(line[6:]) for line in said.decode().splitlines() if line.startswith("data: {")]


def the_calls(path, answer):
    """The calls of an answer: name and arguments as text; the text beside them; why it ended."""
    if path == CHAT:
        choice = answer["choices"][0]
        calls = [(call["function"]["name"], call["function"]["arguments"]) for call in choice["message"].get("tool_calls", ())]
        return calls, choice["message"]["content"], choice["finish_reason"]
    if path == MESSAGES:
        calls = [(block["name"], json.dumps(block["input"])) for block in answer["content"] if block["type"] == "tool_use"]
        return calls, "".join(block.get("text", "") for block in answer["content"]), answer["stop_reason"]
    calls = [(item["name"], item["arguments"]) for item in answer["output"] if item["type"] == "function_call"]
    texts = [item["content"][0]["text"] for item in answer["output"] if item["type"] == "message"]
    return calls, "".join(texts), answer["status"]


ENDS = {CHAT: ("tool_calls", "length"), MESSAGES: ("tool_use", "max_tokens"), RESPONSES: ("completed", "incomplete")}


@every_path
@pytest.mark.parametrize(("choice", "said"), [("order", '{"a": 1}'), (None, '{"name": "order", "arguments": {"a": 1}}')])
def test_a_whole_answer_is_a_call_in_each_dialects_words(path, choice, said):
    assert the_calls(path, answered(path, in_pieces(said, 5), choice=choice)) == ([("order", '{"a": 1}')], "", ENDS[path][0])


@every_path
def test_a_call_that_was_cut_has_what_came_of_it(path):
    cut = '{"city": "Paris", "unit": "cel'
    came = '{"city": "Paris"}' if path == MESSAGES else cut
    assert the_calls(path, answered(path, in_pieces(cut, 5), EndReason.LENGTH)) == ([("weather", came)], "", ENDS[path][1])


@every_path
def test_a_call_that_was_cut_before_its_name_is_text(path):
    cut = '{"name": "wea'
    assert the_calls(path, answered(path, in_pieces(cut, 5), EndReason.LENGTH, choice=None)) == ([], cut, ENDS[path][1])


def test_openais_chunks_carry_the_call_and_then_its_arguments():
    chunks = answered(CHAT, in_pieces('{"city": "Paris"}', 6), stream=True)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    first, *others = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert first == {"index": 0, "id": "call_job_1", "type": "function", "function": {"name": "weather", "arguments": '{"city'}}
    assert others == [{"index": 0, "function": {"arguments": '": "Pa'}}, {"index": 0, "function": {"arguments": 'ris"}'}}]
    assert "".join(delta.get("content", "") for delta in deltas) == ""
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_anthropics_events_are_one_block_of_the_tool():
    events = answered(MESSAGES, in_pieces('{"city": "Paris"}', 6), stream=True)
    assert [event["type"] for event in events] == [
        "message_start", "content_block_start", *["content_block_delta"] * 3, "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert events[1]["content_block"] == {"type": "tool_use", "id": "call_job_1", "name": "weather", "input": {}}
    assert "".join(event["delta"]["partial_json"] for event in events[2:5]) == '{"city": "Paris"}'
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize(("reason", "status"), [(EndReason.STOP, "completed"), (EndReason.LENGTH, "incomplete")])
def test_a_responses_events_are_one_item_of_the_function(reason, status):
    events = answered(RESPONSES, in_pieces('{"city": "Paris"}', 6), reason, stream=True)
    call = "response.function_call_arguments"
    assert [event["type"] for event in events] == [
        "response.created", "response.in_progress", "response.output_item.added", *[f"{call}.delta"] * 3, f"{call}.done",
        "response.output_item.done", f"response.{status}",
    ]  # fmt: skip
    assert events[-3]["arguments"] == "".join(event["delta"] for event in events[3:6]) == '{"city": "Paris"}'
    assert events[-2]["item"] | {"id": ""} == {
        "id": "", "type": "function_call", "status": status, "call_id": "call_job_1", "name": "weather", "arguments": '{"city": "Paris"}',
    }  # fmt: skip
    assert events[-1]["response"]["output"] == [events[-2]["item"]]


@every_path
def test_the_end_of_a_stream_tells_what_was_no_call(path):
    told = json.dumps(answered(path, in_pieces('{"name": "wea', 5), EndReason.LENGTH, stream=True, choice=None))
    assert '{\\"name\\": \\"wea' in told
    assert ENDS[path][1] in told


@every_path
def test_thoughts_before_a_call_stay_thoughts(path):
    texts = [Text(seq=0, thinking="hm"), *(Text(seq=n + 1, content=one.content) for n, one in enumerate(in_pieces('{"city": "x"}', 4)))]
    calls, text, _ = the_calls(path, answered(path, texts))
    assert (calls, text) == ([("weather", '{"city": "x"}')], "")
    assert "hm" in json.dumps(answered(path, texts, stream=True))

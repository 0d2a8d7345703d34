"""Chats. What any Ollama API keeps, ours and a real one; the numbers are those of the Ollama reference, section 7."""

import json

import pytest

from tests.contract.ollama_runtimes import CUT, PARIS, RENDER, STEADY

COUNTERS = ("total_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration")


def test_08_chat_answers_paris(runtime):
    said = runtime.chat().json()
    assert runtime.says(said["message"]["content"])
    assert (said["done"], said["done_reason"]) == (True, "stop")


def test_09_a_chat_streams_unless_told_otherwise(runtime):
    lines = runtime.lines("/api/chat", runtime.chat_body())
    assert len(lines) >= 2
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]


def test_10_without_a_stream_it_is_one_object(runtime):
    answer = runtime.chat()
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["model"] == runtime.model


def test_11_the_streamed_text_is_the_whole_one(runtime):
    lines = runtime.lines("/api/chat", runtime.chat_body())
    assert "".join(line["message"]["content"] for line in lines) == runtime.chat().json()["message"]["content"]


def test_12_the_final_object_has_counters(runtime):
    said = runtime.chat().json()
    for name in COUNTERS:
        assert isinstance(said[name], int)
        assert said[name] > 0
    assert said["total_duration"] >= said.get("load_duration", 0) + said["eval_duration"]


def test_13_there_are_no_counters_before_the_end(runtime):
    *before, last = runtime.lines("/api/chat", runtime.chat_body())
    assert [line for line in before if set(COUNTERS) & set(line)] == []
    assert set(COUNTERS) <= set(last)


def test_14_the_prompt_count_does_not_depend_on_the_cache(runtime):
    assert runtime.chat().json()["prompt_eval_count"] == runtime.chat().json()["prompt_eval_count"]


def test_16_num_predict_limits(runtime):
    said = runtime.chat(options={**STEADY, "num_predict": 3}).json()
    assert (said["done_reason"], said["eval_count"]) == ("length", 3)


def test_17_a_stop_sequence_ends_the_text_before_it(runtime):
    stop = runtime.chat().json()["message"]["content"].split()[3]
    said = runtime.chat(options={**STEADY, "stop": [stop]}).json()
    assert said["message"]["content"]
    assert stop not in said["message"]["content"]
    assert said["done_reason"] == "stop"


def test_18_temperature_zero_is_repeatable(runtime):
    assert len({runtime.chat().json()["message"]["content"] for _ in range(3)}) == 1


def test_21_format_json(runtime):
    messages = [{"role": "user", "content": "A city as JSON with the key name."}]
    said = runtime.chat(messages, format="json", options={**STEADY, "num_predict": 64}).json()
    text = said["message"]["content"]
    assert isinstance(json.loads(text), dict) if said["done_reason"] == "stop" else text.lstrip().startswith("{")


def test_22_format_schema(runtime):
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]}
    said = runtime.chat(format=schema, options={**STEADY, "num_predict": 48}).json()
    assert set(json.loads(said["message"]["content"])) == {"city"}


def test_23_an_invalid_format_is_refused(runtime):
    answer = runtime.chat(format="xml")
    assert (answer.status_code in {400, 500}, "format" in answer.json()["error"]) == (True, True)


def test_24_logprobs(runtime):
    said = runtime.chat(logprobs=True, top_logprobs=2).json()
    assert {"token", "logprob"} <= set(said["logprobs"][0])
    assert [len(row["top_logprobs"]) for row in said["logprobs"]] == [2] * len(said["logprobs"])
    assert "logprobs" not in runtime.chat().json()


def test_24_more_than_twenty_logprobs_are_refused(runtime):
    answer = runtime.chat(logprobs=True, top_logprobs=21)
    assert (answer.status_code, answer.json()["error"]) == (400, "top_logprobs must be between 0 and 20")


def test_25_tools_are_refused_and_an_empty_list_is_none(runtime):
    tool = {"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}
    answer = runtime.chat(tools=[tool])
    assert (answer.status_code, "does not support tools" in answer.json()["error"]) == (400, True)
    assert runtime.chat(tools=[]).status_code == 200


def test_26_thinking_is_refused(runtime):
    answer = runtime.chat(think=True)
    assert (answer.status_code, "does not support thinking" in answer.json()["error"]) == (400, True)
    assert [runtime.chat(think=absent).status_code for absent in (False, None)] == [200, 200]


def test_27_empty_fields_are_absent(runtime):
    assert runtime.chat(format="", options={}, tools=[], think=None, keep_alive=None, logprobs=None).status_code == 200


def test_28_unknown_options_are_ignored(runtime):
    assert runtime.chat(options={**STEADY, "nothing": 1}, neither=2).status_code == 200


def test_29_missing_and_unknown_models(runtime):
    missing = runtime.post("/api/chat", {"messages": PARIS})
    assert (missing.status_code, missing.json()) == (400, {"error": "model is required"})
    for stream in (True, False):
        answer = runtime.post("/api/chat", {"model": "nope:1b", "messages": PARIS, "stream": stream})
        assert (answer.status_code, answer.json()["error"]) == (404, "model 'nope:1b' not found")


def test_30_a_prompt_that_is_too_long_is_refused_without_truncation(runtime):
    answer = runtime.chat([{"role": "user", "content": "word " * 9000}], truncate=False)
    assert (answer.status_code, "context" in answer.json()["error"]) == (400, True)


def test_31_an_old_history_is_cut_in_silence(runtime):
    runtime.needs(CUT)
    said = runtime.chat([{"role": "user", "content": "word " * 9000}, {"role": "assistant", "content": "ok"}, *PARIS]).json()
    assert 0 < said["prompt_eval_count"] < 500


@pytest.mark.parametrize("value", ["300", "soon"])
def test_35_a_bad_keep_alive_is_400(runtime, value):
    assert runtime.chat(keep_alive=value).status_code == 400


def test_56_a_chat_is_rendered_without_running_the_model(runtime):
    runtime.needs(RENDER)
    said = runtime.chat(_debug_render_only=True).json()
    assert PARIS[0]["content"] in said["_debug_info"]["rendered_template"]
    assert "message" not in said

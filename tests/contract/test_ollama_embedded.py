"""What our own front does beyond the contract. What any Ollama API keeps, ours and a real one; the numbers are those of the Ollama reference, section 7."""

import json
import os
import signal
from pathlib import Path

import httpx2
import pytest

from cluster.audit.sampling import CANDIDATES
from tests.contract.ollama_runtimes import BE_OPENED, COUNT, KNOW_HOSTS, NUMBERS, PARIS, STEADY, STORY, STORY_OPTIONS
from tests.waiting import wait_for


def test_53_a_killed_child_ends_the_stream_with_an_error_and_the_next_request_works(runtime):
    runtime.needs(BE_OPENED)
    leave_one_child(runtime)
    with runtime.http.stream("POST", "/api/chat", json=runtime.chat_body(STORY, options=STORY_OPTIONS, format=NUMBERS)) as answer:
        lines = answer.iter_lines()
        next(lines)
        os.kill(runtime.children[0], signal.SIGKILL)
        assert "error" in json.loads(list(lines)[-1])
    assert runtime.chat().status_code == 200


def test_55_a_foreign_host_is_refused(runtime):
    runtime.needs(KNOW_HOSTS)
    assert runtime.http.get("/api/tags", headers={"Host": "evil.example"}).status_code == 403


def test_55_a_child_answers_nobody_without_its_key(runtime):
    runtime.needs(BE_OPENED)
    leave_one_child(runtime)
    (port,) = listening_ports(runtime.children[0])
    answer = httpx2.post(f"http://127.0.0.1:{port}/completion", json={"prompt": "hi", "n_predict": 1}, trust_env=False)
    assert answer.status_code == 401


def test_tokens_are_counted_by_the_models_own_tokenizer(runtime):
    runtime.needs(COUNT)
    assert runtime.post("/gfe/tokenize", {"model": runtime.model, "content": "The capital of France is Paris."}).json() == {"tokens": 7}
    counted = runtime.post("/gfe/tokenize", {"model": runtime.model, "messages": PARIS}).json()["tokens"]
    assert counted == runtime.chat().json()["prompt_eval_count"]


def test_the_tokens_of_a_chat_hold_what_the_model_was_created_with(runtime, create):
    runtime.needs(COUNT)
    for more in ({"system": "You are a pirate."}, {"template": "{{ .System }} {{ .Prompt }}"}, {"messages": PARIS}):
        name = create(**more)
        counted = runtime.post("/gfe/tokenize", {"model": name, "messages": PARIS}).json()["tokens"]
        assert counted == runtime.chat(model=name).json()["prompt_eval_count"]


def score(runtime, answer, *, window=64, **more):
    body = {"model": runtime.model, "options": STEADY, "answer": answer, "window": window}
    return runtime.post("/gfe/score", ({} if "prompt" in more else {"messages": PARIS}) | body | more)


def test_an_answer_is_scored_by_what_the_model_would_have_said_in_its_place(runtime):
    runtime.needs(COUNT)
    answer = runtime.chat().json()["message"]["content"]
    scored = score(runtime, answer).json()
    assert (
        scored["tokens"]
        == len(scored["steps"])
        == runtime.post("/gfe/tokenize", {"model": runtime.model, "content": answer}).json()["tokens"]
    )
    for step in scored["steps"]:
        tokens, logprobs = zip(*step["candidates"], strict=True)
        assert len(set(tokens)) == CANDIDATES
        assert list(logprobs) == sorted(logprobs, reverse=True)
        assert step["claimed"] == tokens[0]  # its own answer: at temperature 0 it says the likeliest
    lie = score(runtime, answer.replace("Paris", "London")).json()
    assert any(step["claimed"] != step["candidates"][0][0] for step in lie["steps"])


def test_a_window_is_scored_where_chance_says(runtime):
    runtime.needs(COUNT)
    answer = "One two three four five six seven eight nine ten eleven twelve."
    whole = [step["claimed"] for step in score(runtime, answer).json()["steps"]]
    assert [step["claimed"] for step in score(runtime, answer, window=5, chance=0).json()["steps"]] == whole[:5]
    assert [step["claimed"] for step in score(runtime, answer, window=5, chance=0.999).json()["steps"]] == whole[-5:]


def test_the_prompt_is_read_as_the_model_was_created_and_a_generation_too(runtime, create):
    runtime.needs(COUNT)
    name = create(system="You are a pirate.", template="{{ .System }} {{ .Prompt }} ->")
    answer = runtime.chat(model=name).json()["message"]["content"]
    assert all(step["claimed"] == step["candidates"][0][0] for step in score(runtime, answer, model=name).json()["steps"])
    prompt = {"prompt": "The capital of France is", "raw": True}
    said = runtime.post("/api/generate", {"model": runtime.model, "stream": False, "options": STEADY} | prompt).json()["response"]
    assert all(step["claimed"] == step["candidates"][0][0] for step in score(runtime, said, **prompt).json()["steps"])


def is_best(step):
    return step["claimed"] == step["candidates"][0][0]


def test_penalties_are_counted_over_prompt_and_answer_as_the_model_does(runtime):
    runtime.needs(COUNT)
    asked = {"messages": [{"role": "user", "content": "Say: the sea, the sea, the sea, the sea."}]}
    for penalties in (
        {"repeat_penalty": 1.5},
        {"presence_penalty": 2.0, "frequency_penalty": 1.0},
        {"repeat_penalty": 1.3, "repeat_last_n": 8},
    ):
        options = STEADY | {"num_predict": 40} | penalties
        answer = runtime.chat(**asked, options=options).json()["message"]["content"]
        scored = score(runtime, answer, **asked, options=options).json()["steps"]
        assert all(map(is_best, scored)), (penalties, answer)
        assert not all(map(is_best, score(runtime, answer, **asked).json()["steps"])), penalties  # without them it would say something else
    everywhere = {"repeat_penalty": 1.5, "repeat_last_n": -1}  # to be scored, however far the engine itself looks
    assert score(runtime, answer, **asked, options=STEADY | everywhere).status_code == 200


def test_penalties_that_move_nothing_change_no_log_probability(runtime):
    runtime.needs(COUNT)
    plain = score(runtime, "The capital of France is Paris.").json()["steps"]
    nearly = score(runtime, "The capital of France is Paris.", options=STEADY | {"presence_penalty": 1e-6}).json()["steps"]
    for one, other in zip(plain, nearly, strict=True):
        assert [token for token, _ in one["candidates"][:3]] == [token for token, _ in other["candidates"][:3]]
        assert [logprob for _, logprob in one["candidates"]] == pytest.approx([logprob for _, logprob in other["candidates"]], abs=0.01)


def test_an_answer_is_scored_also_where_its_tokens_break_off_in_a_character(runtime):
    runtime.needs(COUNT)
    answer = "😀🌊 日本語 🙂🐟"
    plain = score(runtime, answer).json()
    assert len(plain["steps"]) == plain["tokens"] > len(answer)
    penalized = score(runtime, answer, options=STEADY | {"presence_penalty": 0.1}).json()
    assert 0 < len(penalized["steps"]) <= len(plain["steps"])


def test_of_an_answer_in_a_format_what_stands_in_strings_is_scored(runtime):
    runtime.needs(COUNT)
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "why": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["city", "why", "age"],
    }
    answer = runtime.chat(format=schema, options=STEADY | {"num_predict": 80}).json()["message"]["content"]
    scored = score(runtime, answer, format=schema).json()
    assert 0 < len(scored["steps"]) < scored["tokens"]
    assert all(map(is_best, scored["steps"]))
    assert score(runtime, "[1, 2, 3]", format="json").json()["steps"] == []


def test_what_cannot_be_scored_is_refused(runtime):
    runtime.needs(COUNT)
    for wrong in (
        {"answer": ""},
        {"answer": None},
        {"window": 0},
        {"window": 513},
        {"chance": 1},
        {"chance": -0.1},
        {"answer": "word " * 4000},
    ):
        refused = score(runtime, **({"answer": "Paris"} | wrong))
        assert (refused.status_code, bool(refused.json()["error"])) == (400, True), wrong
    assert score(runtime, "Paris", model="nobody").status_code == 404


def leave_one_child(runtime):
    for row in runtime.http.get("/api/ps").json()["models"]:
        if row["name"] != runtime.model:
            runtime.post("/api/generate", {"model": row["name"], "keep_alive": 0})
    runtime.chat()
    wait_for(lambda: len(runtime.children) == 1)


def listening_ports(pid):
    """Ports of this machine's IPv4 on which a process listens."""
    handles = [str(handle.readlink()) for handle in Path(f"/proc/{pid}/fd").iterdir()]
    sockets = {handle[8:-1] for handle in handles if handle.startswith("socket:")}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(row[1].partition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in sockets]

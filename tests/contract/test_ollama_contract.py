"""What any Ollama API keeps, ours and a real one: numbers are those of the Ollama reference, section 7.

`embedded` starts our front with SmolLM2, `scripted` the runtime that other tests use, `real` runs against GFE_OLLAMA_URL, which must have the
model `smollm2:135m`. Where the scripted one may differ from a model, `answers` says how.
"""

import asyncio
import json
import os
import subprocess
import sys
import time

import httpx2
import pytest

from cluster.jobs import JobKind
from cluster.runtime.ollama import OllamaRuntime, RuntimeText
from tests.scripted_runtime import ANSWER_WORDS, words_of

MODEL = "smollm2:135m"
PARIS = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]
STEADY = {"temperature": 0, "seed": 1, "num_predict": 16}
pytestmark = pytest.mark.model
RUNTIMES = ["embedded", "scripted", *([pytest.param("real", marks=pytest.mark.real_ollama)] if os.environ.get("GFE_OLLAMA_URL") else [])]


def answers(runtime, text, messages=PARIS):
    """Whether this is the answer to a question: a model knows Paris, the script says words that follow from the prompt."""
    return text == "".join(words_of(messages[-1]["content"], ANSWER_WORDS)) if runtime.kind == "scripted" else "Paris" in text


class Runtime:
    def __init__(self, url, kind, process=None):
        self.url, self.kind, self.process = url, kind, process
        self.http = httpx2.Client(base_url=url, timeout=120, trust_env=False)

    def post(self, path, body):
        return self.http.post(path, json=body)

    def chat(self, messages=None, **more):
        body = {"model": MODEL, "messages": PARIS if messages is None else messages, "stream": False, "options": STEADY}
        return self.post("/api/chat", body | more)

    def lines(self, path, body):
        with self.http.stream("POST", path, json=body) as answer:
            assert answer.headers["content-type"].startswith("application/x-ndjson")
            return [json.loads(line) for line in answer.iter_lines()]


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request, tmp_path_factory):
    if request.param == "real":
        yield Runtime(os.environ["GFE_OLLAMA_URL"], "real")
        return
    embedded = ["cluster.runtime.front", "--store", str(tmp_path_factory.mktemp("store")), "--slots", "2", "--context", "2048"]
    command = [sys.executable, "-m", *({"embedded": embedded, "scripted": ["tests.scripted_runtime", "--contract"]}[request.param])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    port = None
    for line in process.stdout:
        said = json.loads(line)
        port = said.get("port", port)
        assert said.get("status") != "failed", said
        if request.param == "scripted" or said.get("status") == "ready":
            break
    yield Runtime(f"http://127.0.0.1:{port}", request.param, process)
    process.terminate()
    process.wait(10)
    assert request.param == "scripted" or process.returncode == 0
    process.stdout.close()


def only_embedded(runtime):
    if runtime.kind != "embedded":
        pytest.skip("what our own front does beyond the contract")


def test_01_version_and_root(runtime):
    assert runtime.http.get("/").text == "Ollama is running"
    assert runtime.http.head("/").status_code == 200
    assert runtime.http.get("/api/version").json()["version"].count(".") >= 2


def test_02_unknown_route_and_method(runtime):
    assert runtime.http.get("/api/nothing").status_code == 404
    assert runtime.http.get("/api/chat").status_code in {404, 405}


def test_03_body_errors(runtime):
    assert runtime.http.post("/api/chat", content=b"").json() == {"error": "missing request body"}
    assert runtime.http.post("/api/chat", content=b"{nonsense").status_code == 400
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = {"model": MODEL, "messages": PARIS, "stream": False, "options": STEADY}
    assert runtime.http.post("/api/chat", content=json.dumps(body), headers=form).status_code == 200


def test_04_tags_lists_the_model(runtime):
    row = next(row for row in runtime.http.get("/api/tags").json()["models"] if row["name"] == MODEL)
    assert row["size"] > 90_000_000
    assert len(row["digest"]) == 64
    assert row["details"]["format"] == "gguf"


def test_05_show_by_model_and_by_name(runtime):
    shown = runtime.post("/api/show", {"model": MODEL}).json()
    assert runtime.post("/api/show", {"name": MODEL}).status_code == 200
    assert shown["model_info"]["llama.block_count"] == 30
    assert shown["model_info"]["llama.attention.head_count_kv"] == 3
    assert "completion" in shown["capabilities"]
    assert not {"tools", "thinking"} & set(shown["capabilities"])


def test_06_show_names_the_weights(runtime):
    lines = runtime.post("/api/show", {"model": MODEL}).json()["modelfile"].splitlines()
    assert any(line.startswith("FROM ") and len(line.rpartition("sha256-")[2]) == 64 for line in lines)


def test_07_show_unknown_is_404(runtime):
    answer = runtime.post("/api/show", {"model": "nope:1b"})
    assert (answer.status_code, "not found" in answer.json()["error"]) == (404, True)


def test_08_chat_answers_paris(runtime):
    said = runtime.chat().json()
    assert answers(runtime, said["message"]["content"])
    assert (said["done"], said["done_reason"]) == (True, "stop")


def test_09_a_chat_streams_unless_told_otherwise(runtime):
    lines = runtime.lines("/api/chat", {"model": MODEL, "messages": PARIS, "options": STEADY})
    assert len(lines) >= 2
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert "eval_count" not in lines[0]


def test_11_the_streamed_text_is_the_whole_one(runtime):
    lines = runtime.lines("/api/chat", {"model": MODEL, "messages": PARIS, "options": STEADY})
    assert "".join(line["message"]["content"] for line in lines) == runtime.chat().json()["message"]["content"]


def test_12_the_final_object_has_counters(runtime):
    said = runtime.chat().json()
    for name in ("total_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"):
        assert isinstance(said[name], int)
        assert said[name] > 0
    assert said["total_duration"] >= said["eval_duration"]


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


def test_19_generate_with_prompt_and_system(runtime):
    body = {"model": MODEL, "prompt": "Say hello", "stream": False, "options": STEADY}
    plain = runtime.post("/api/generate", body).json()
    assert plain["response"]
    system = runtime.post("/api/generate", body | {"system": "You are a pirate who loves the sea."}).json()
    assert system["prompt_eval_count"] != plain["prompt_eval_count"]


def test_20_generate_raw(runtime):
    body = {"model": MODEL, "prompt": "The capital of France is", "raw": True, "stream": False, "options": {**STEADY, "num_predict": 6}}
    said = runtime.post("/api/generate", body).json()["response"]
    assert "Paris" in said or runtime.kind == "scripted"
    assert said
    assert runtime.post("/api/generate", body | {"system": "x"}).status_code == 400


def test_21_format_json(runtime):
    said = runtime.chat(
        [{"role": "user", "content": "A city as JSON with the key name."}], format="json", options={**STEADY, "num_predict": 48}
    ).json()
    assert said["message"]["content"].lstrip().startswith("{")


def test_22_format_schema(runtime):
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]}
    said = runtime.chat(format=schema, options={**STEADY, "num_predict": 48}).json()
    assert set(json.loads(said["message"]["content"])) == {"city"}


def test_23_an_invalid_format_is_refused(runtime):
    assert runtime.chat(format="xml").status_code in {400, 500}


def test_24_logprobs(runtime):
    said = runtime.chat(logprobs=True, top_logprobs=2).json()
    assert {"token", "logprob"} <= set(said["logprobs"][0])
    assert runtime.chat(logprobs=True, top_logprobs=21).status_code == 400


def test_25_tools_are_refused_and_an_empty_list_is_none(runtime):
    tool = {"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}
    answer = runtime.chat(tools=[tool])
    assert (answer.status_code, "does not support tools" in answer.json()["error"]) == (400, True)
    assert runtime.chat(tools=[]).status_code == 200


def test_26_thinking_is_refused(runtime):
    assert runtime.chat(think=True).status_code == 400
    assert runtime.chat(think=False).status_code == 200


def test_27_empty_fields_are_absent(runtime):
    assert runtime.chat(format="", tools=[], think=None, keep_alive=None).status_code == 200


def test_28_unknown_options_are_ignored(runtime):
    assert runtime.chat(options={**STEADY, "nothing": 1}, neither=2).status_code == 200


def test_29_missing_and_unknown_models(runtime):
    assert runtime.post("/api/chat", {"messages": PARIS}).json() == {"error": "model is required"}
    for stream in (True, False):
        answer = runtime.post("/api/chat", {"model": "nope:1b", "messages": PARIS, "stream": stream})
        assert (answer.status_code, answer.json()["error"]) == (404, "model 'nope:1b' not found")


def test_30_a_prompt_that_is_too_long_is_refused_without_truncation(runtime):
    answer = runtime.chat([{"role": "user", "content": "word " * 9000}], truncate=False)
    assert (answer.status_code, "context" in answer.json()["error"]) == (400, True)


def test_31_an_old_history_is_cut_in_silence(runtime):
    said = runtime.chat([{"role": "user", "content": "word " * 9000}, {"role": "assistant", "content": "ok"}, *PARIS]).json()
    assert said["prompt_eval_count"] < 500


def test_32_33_an_empty_prompt_loads_and_keep_alive_zero_unloads(runtime):
    loaded = runtime.post("/api/chat", {"model": MODEL}).json()
    assert (loaded["done"], loaded["done_reason"]) == (True, "load")
    assert [row["name"] for row in runtime.http.get("/api/ps").json()["models"]] == [MODEL]
    assert runtime.post("/api/generate", {"model": MODEL, "keep_alive": 0}).json()["done_reason"] == "unload"
    until = time.monotonic() + 5
    while runtime.http.get("/api/ps").json()["models"]:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_34_keep_alive_ends(runtime):
    runtime.chat(keep_alive="2s")
    until = time.monotonic() + 8
    while runtime.http.get("/api/ps").json()["models"]:
        assert time.monotonic() < until
        time.sleep(0.1)
    runtime.chat(keep_alive=-1)
    assert runtime.http.get("/api/ps").json()["models"][0]["expires_at"] > "2100"
    runtime.chat(keep_alive="30m")


@pytest.mark.parametrize("value", ["300", "soon"])
def test_35_a_bad_keep_alive_is_400(runtime, value):
    assert runtime.chat(keep_alive=value).status_code == 400


def test_36_ps_fields(runtime):
    runtime.chat()
    row = runtime.http.get("/api/ps").json()["models"][0]
    assert row["size"] > 0
    assert {"size_vram", "context_length", "expires_at", "digest"} <= set(row)


def test_37_embeddings_have_length_one(runtime):
    answer = runtime.post("/api/embed", {"model": MODEL, "input": ["one", "two"]})
    if answer.status_code == 501:
        pytest.skip("this Ollama does not embed with chat models")
    vectors = answer.json()["embeddings"]
    assert [len(vector) for vector in vectors] == [576, 576]
    assert sum(value * value for value in vectors[0]) == pytest.approx(1, abs=1e-3)
    assert runtime.post("/api/embed", {"model": MODEL, "input": ""}).json()["embeddings"] == []


def test_38_leaving_frees_the_slot(runtime):
    began = time.monotonic()
    runtime.chat(options={**STEADY, "num_predict": 2})
    usual = time.monotonic() - began
    story = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me a very long story."}], "options": {"num_predict": 1500}}
    for _ in range(4):
        with runtime.http.stream("POST", "/api/chat", json=story) as answer:
            next(answer.iter_lines())
    began = time.monotonic()
    runtime.chat(options={**STEADY, "num_predict": 2})
    assert time.monotonic() - began < 10 * usual + 3


async def test_40_four_at_once_all_finish(runtime):
    found = await asyncio.gather(*(asyncio.to_thread(runtime.chat) for _ in range(4)))
    assert [one.text for one in found if one.status_code != 200] == []
    assert all(answers(runtime, one.json()["message"]["content"]) for one in found)
    assert all(one.json()["eval_count"] > 0 for one in found)


def test_41_another_context_loads_the_model_anew(runtime):
    runtime.chat(options={**STEADY, "num_ctx": 1024})
    assert runtime.http.get("/api/ps").json()["models"][0]["context_length"] == 1024
    runtime.chat()


def test_43_an_unknown_name_is_told_in_the_last_line_of_its_pull(runtime):
    lines = runtime.lines("/api/pull", {"model": "gfe-nobody-has-this:1b"})
    assert lines[0] == {"status": "pulling manifest"}
    assert "error" in lines[-1]
    assert runtime.post("/api/pull", {"model": "gfe-nobody-has-this:1b", "stream": False}).status_code == 500


def test_43_a_known_name_is_pulled_with_progress_and_ends_with_success(runtime):
    if runtime.kind == "real":
        pytest.skip("a real one would fetch it over the network")
    assert runtime.http.request("DELETE", "/api/delete", json={"model": MODEL}).status_code == 200
    assert runtime.chat().status_code == 404
    assert runtime.http.request("DELETE", "/api/delete", json={"model": MODEL}).status_code == 404
    lines = runtime.lines("/api/pull", {"model": MODEL})
    assert lines[0] == {"status": "pulling manifest"}
    layers = [line for line in lines if line.get("total")]
    assert layers[-1]["completed"] == layers[-1]["total"] > 90_000_000
    assert [line["status"] for line in lines[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    assert answers(runtime, runtime.chat().json()["message"]["content"])
    assert runtime.post("/api/pull", {"name": MODEL, "stream": False}).json() == {"status": "success"}


def test_44_the_ollama_package(runtime):
    import ollama

    client = ollama.Client(host=runtime.url, trust_env=False)
    assert MODEL in [model.model for model in client.list().models]
    assert client.show(MODEL).details.family == "llama"
    assert answers(runtime, client.chat(MODEL, PARIS, options=STEADY).message.content)
    assert "".join(part.message.content for part in client.chat(MODEL, PARIS, options=STEADY, stream=True))
    with pytest.raises(ollama.ResponseError) as refused:
        client.chat("nope:1b", PARIS)
    assert refused.value.status_code == 404


def test_53_a_killed_child_ends_the_stream_with_an_error_and_the_next_request_works(runtime):
    only_embedded(runtime)
    import signal

    story = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me a very long story."}], "options": {"num_predict": 1500}}
    with runtime.http.stream("POST", "/api/chat", json=story) as answer:
        lines = answer.iter_lines()
        next(lines)
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(runtime.process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        os.kill(int(children[0]), signal.SIGKILL)
        assert "error" in json.loads(list(lines)[-1])
    assert runtime.chat().status_code == 200


def test_55_a_foreign_host_is_refused(runtime):
    assert runtime.http.get("/api/tags", headers={"Host": "evil.example"}).status_code == 403


def test_56_a_chat_is_rendered_without_running_the_model(runtime):
    said = runtime.chat(_debug_render_only=True).json()
    assert PARIS[0]["content"] in said["_debug_info"]["rendered_template"]
    assert "message" not in said


async def test_57_raw_generation_goes_on_with_a_chat_that_was_cut_before_a_word(runtime):
    """The rule of continuation: rendered chat, then the text up to the start of any word, gives the rest of the unbroken answer."""
    client = OllamaRuntime(runtime.url)
    await client.start()
    try:
        chat = {"messages": [{"role": "user", "content": "Tell me a story about a dog."}], "options": {"temperature": 0, "seed": 1}}
        unbroken = await spoken(client, JobKind.CHAT, chat, 40)
        prompt = await client.render(MODEL, chat)
        blanks = [place for place, letter in enumerate(unbroken) if letter == " "]
        assert len(blanks) > 5
        for cut in blanks[2::6]:
            raw = {"raw": True, "prompt": prompt + unbroken[:cut], "options": chat["options"]}
            rest = await spoken(client, JobKind.GENERATE, raw, 12)
            assert rest
            assert unbroken.startswith(unbroken[:cut] + rest) or (unbroken[:cut] + rest).startswith(unbroken), cut
    finally:
        await client.aclose()


async def spoken(client, kind, request, max_tokens):
    texts = []
    async for piece in client.stream(kind, MODEL, request, max_tokens):
        if isinstance(piece, RuntimeText):
            texts.append(piece.content)
    return "".join(texts)


def test_tokens_are_counted_by_the_models_own_tokenizer(runtime):
    only_embedded(runtime)
    assert runtime.post("/gfe/tokenize", {"model": MODEL, "content": "The capital of France is Paris."}).json() == {"tokens": 7}
    counted = runtime.post("/gfe/tokenize", {"model": MODEL, "messages": PARIS}).json()["tokens"]
    assert counted == runtime.chat().json()["prompt_eval_count"]

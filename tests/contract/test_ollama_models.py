"""How models come, go and differ. What any Ollama API keeps, ours and a real one; the numbers are those of the Ollama reference, section 7."""

import hashlib
import secrets

import pytest

from tests.contract.ollama_runtimes import MANAGE, PARIS, PULL_KNOWN, RENDER, STEADY
from tests.waiting import wait_for

KNOWN = "smollm2:135m"
LIKE_A_LETTER = "{{ if .System }}To: {{ .System }}. {{ end }}{{ .Prompt }} Answer:"


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_42_a_blob_is_taken_once(runtime):
    runtime.needs(MANAGE)
    content = secrets.token_bytes(3_000_000)
    path = f"/api/blobs/{digest_of(content)}"
    assert runtime.http.head(path).status_code == 404
    assert runtime.http.post(path, content=content, headers={"Content-Type": "application/json"}).status_code == 201
    assert runtime.http.head(path).status_code == 200
    assert runtime.http.post(path, content=content).status_code == 200


def test_42_a_blob_that_is_not_what_its_name_says_is_refused(runtime):
    runtime.needs(MANAGE)
    wanted, content = digest_of(secrets.token_bytes(8)), secrets.token_bytes(1000)
    answer = runtime.http.post(f"/api/blobs/{wanted}", content=content)
    assert (answer.status_code, answer.json()["error"]) == (400, f'digest mismatch, expected "{wanted}", got "{digest_of(content)}"')
    assert runtime.http.head(f"/api/blobs/{wanted}").status_code == 404


def test_42_a_model_is_created_from_a_blob_step_by_step(runtime):
    runtime.needs(MANAGE)
    name = f"gfe-contract-{secrets.token_hex(4)}:steps"
    lines = runtime.lines("/api/create", {"model": name, "files": {"model.gguf": runtime.digest}})
    steps = [line["status"] for line in lines]
    assert steps[0] == "parsing GGUF"
    assert f"using existing layer {runtime.digest}" in steps
    assert steps[-2:] == ["writing manifest", "success"]
    assert runtime.listed(name)["size"] == runtime.listed()["size"]
    assert runtime.delete(name).status_code == 200


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "neither 'from' or 'files' was specified"),
        ({"files": {"/etc/model.gguf": "sha256:" + "0" * 64}}, "file path must be relative"),
        ({"model": "a b", "from": "x"}, "invalid"),
        ({"files": {"model.gguf": "sha256:" + "0" * 64}}, "0000000000"),
    ],
)
def test_42_what_cannot_be_created_is_refused(runtime, wrong, words):
    runtime.needs(MANAGE)
    answer = runtime.post("/api/create", {"model": "gfe-contract-never:t", **wrong})
    assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text
    assert runtime.listed("gfe-contract-never:t") is None


def test_42_what_is_no_gguf_is_refused(runtime):
    runtime.needs(MANAGE)
    content = b"this is no model" * 100
    runtime.http.post(f"/api/blobs/{digest_of(content)}", content=content)
    answer = runtime.post("/api/create", {"model": "gfe-contract-never:t", "files": {"model.gguf": digest_of(content)}})
    assert answer.status_code == 400


def test_42_a_copy_is_the_same_model_under_another_name(runtime):
    runtime.needs(MANAGE)
    name = f"gfe-contract-{secrets.token_hex(4)}:copy"
    answer = runtime.post("/api/copy", {"source": runtime.model, "destination": name})
    assert (answer.status_code, answer.content) == (200, b"")
    assert (
        runtime.post("/api/show", {"model": name}).json()["parameters"]
        == runtime.post("/api/show", {"model": runtime.model}).json()["parameters"]
    )
    assert runtime.says(runtime.chat(model=name).json()["message"]["content"])
    runtime.post("/api/generate", {"model": name, "keep_alive": 0})
    wait_for(lambda: runtime.loaded(name) is None)
    assert runtime.delete(name).status_code == 200
    assert runtime.says(runtime.chat().json()["message"]["content"])  # the file is still there for the other one


def test_42_a_copy_of_nothing_is_404(runtime):
    runtime.needs(MANAGE)
    answer = runtime.post("/api/copy", {"source": "nope:1b", "destination": "gfe-contract-never:t"})
    assert (answer.status_code, answer.json()["error"]) == (404, 'model "nope:1b" not found')


def test_42_a_model_is_deleted_once(runtime, create):
    name = create()
    answer = runtime.delete(name)
    assert (answer.status_code, answer.content) == (200, b"")
    assert runtime.listed(name) is None
    again = runtime.delete(name)
    assert (again.status_code, "not found" in again.json()["error"]) == (404, True)


def test_42_show_tells_what_a_model_was_created_with(runtime, create):
    name = create(
        system="You are a pirate.", template=LIKE_A_LETTER, license="Do as you like.", parameters={"stop": ["one", "two"], "top_k": 7},
        messages=[{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "Arr."}],
    )  # fmt: skip
    shown = runtime.post("/api/show", {"model": name}).json()
    assert (shown["system"], shown["template"]) == ("You are a pirate.", LIKE_A_LETTER)
    assert "Do as you like." in shown["license"]
    assert [(message["role"], message["content"]) for message in shown["messages"]] == [("user", "Who are you?"), ("assistant", "Arr.")]
    rows = {tuple(line.split()) for line in shown["parameters"].splitlines()}
    assert {("stop", '"one"'), ("stop", '"two"'), ("top_k", "7")} <= rows or '["one", "two"]' in shown["parameters"]


def test_42_its_parameters_take_effect_and_a_request_has_the_last_word(runtime, create):
    name = create(parameters={"num_predict": 3, "temperature": 0, "seed": 1})
    said = runtime.chat(model=name, options={}).json()
    assert (said["done_reason"], said["eval_count"]) == ("length", 3)
    assert runtime.chat(model=name, options={"num_predict": 5}).json()["eval_count"] == 5
    assert runtime.generate("Tell me a story.", model=name, options={}).json()["eval_count"] == 3


def test_42_its_system_text_and_messages_take_effect(runtime, create):
    runtime.needs(RENDER)
    name = create(
        system="You are a pirate.", messages=[{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "Arr."}]
    )
    prompt = prompt_of(runtime.chat(model=name, _debug_render_only=True))
    places = [prompt.index(text) for text in ("You are a pirate.", "Who are you?", "Arr.", PARIS[0]["content"])]
    assert places == sorted(places)
    generated = prompt_of(runtime.generate("Say hello", model=name, _debug_render_only=True))
    assert "You are a pirate." in generated
    assert "pirate" not in prompt_of(runtime.generate("Say hello", model=name, system="You are a cook.", _debug_render_only=True))


def test_42_its_template_takes_effect(runtime, create):
    runtime.needs(RENDER)
    name = create(system="France", template=LIKE_A_LETTER)
    assert prompt_of(runtime.chat(model=name, _debug_render_only=True)) == f"To: France. {PARIS[0]['content']} Answer:"
    plain, own = runtime.chat().json(), runtime.chat(model=name).json()
    assert own["message"]["content"]
    assert own["done"]
    assert plain["prompt_eval_count"] != own["prompt_eval_count"]


def test_42_a_request_may_bring_its_own_template(runtime):
    runtime.needs(RENDER)
    said = runtime.generate("Paris", template="<{{ .Prompt }}>", _debug_render_only=True)
    assert prompt_of(said) == "<Paris>"
    assert runtime.generate("Paris", template="{{ .Prompt }} is", options={**STEADY, "num_predict": 4}).json()["response"]
    refused = runtime.generate("Paris", template="{{ if }}")
    assert refused.status_code in {400, 500}


def prompt_of(answer):
    return answer.json()["_debug_info"]["rendered_template"]


def test_43_an_unknown_name_is_told_in_the_last_line_of_its_pull(runtime):
    lines = runtime.lines("/api/pull", {"model": "gfe-nobody-has-this:1b"})
    assert lines[0] == {"status": "pulling manifest"}
    assert "error" in lines[-1]


def test_43_an_unknown_name_is_500_without_a_stream(runtime):
    runtime.needs(PULL_KNOWN)
    answer = runtime.post("/api/pull", {"model": "gfe-nobody-has-this:1b", "stream": False})
    assert (answer.status_code, answer.json()) == (500, {"error": "pull model manifest: file does not exist"})


def test_43_a_known_name_is_pulled_with_progress_and_ends_with_success(runtime):
    runtime.needs(PULL_KNOWN, MANAGE)
    assert runtime.chat(model=KNOWN).status_code == 404
    lines = runtime.lines("/api/pull", {"model": KNOWN})
    assert lines[0] == {"status": "pulling manifest"}
    layers = [line for line in lines if line.get("total")]
    assert layers[-1]["completed"] == layers[-1]["total"] > 90_000_000
    assert [line["status"] for line in lines[-3:]] == ["verifying sha256 digest", "writing manifest", "success"]
    assert runtime.says(runtime.chat(model=KNOWN).json()["message"]["content"])
    assert runtime.post("/api/pull", {"name": KNOWN, "stream": False}).json() == {"status": "success"}
    runtime.post("/api/generate", {"model": KNOWN, "keep_alive": 0})
    assert runtime.delete(KNOWN).status_code == 200

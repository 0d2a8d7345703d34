"""What is there. What any Ollama API keeps, ours and a real one; the numbers are those of the Ollama reference, section 7."""

import json
from datetime import datetime

import pytest

from tests.contract.ollama_runtimes import CONTEXT, MOVE, NAME_FILES, PARIS, STEADY


def test_01_version_and_root(runtime):
    assert runtime.http.get("/").text == "Ollama is running"
    assert runtime.http.get("/api/version").json()["version"].count(".") >= 2


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
def test_01_what_can_be_looked_at_answers_a_look_at_its_head(runtime, path):
    answer = runtime.http.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_02_unknown_route_and_method(runtime):
    assert runtime.http.get("/api/nothing").status_code == 404
    assert runtime.http.get("/api/chat").status_code in {404, 405}


def test_03_body_errors(runtime):
    assert runtime.http.post("/api/chat", content=b"").status_code == 400
    assert runtime.http.post("/api/chat", content=b"").json() == {"error": "missing request body"}
    assert runtime.http.post("/api/chat", content=b"{nonsense").status_code == 400


def test_03_what_the_content_type_says_does_not_matter(runtime):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = {"model": runtime.model, "messages": PARIS, "stream": False, "options": STEADY}
    assert runtime.http.post("/api/chat", content=json.dumps(body), headers=form).status_code == 200


def test_04_tags_lists_the_model(runtime):
    row = runtime.listed()
    assert row["model"] == row["name"]
    assert row["size"] > 0
    assert len(row["digest"]) == 64
    assert row["details"]["format"] == "gguf"
    assert {"family", "families", "parameter_size", "quantization_level", "parent_model"} <= set(row["details"])


def test_04_tags_lists_the_newest_first(runtime):
    times = [datetime.fromisoformat(row["modified_at"]) for row in runtime.http.get("/api/tags").json()["models"]]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("key", ["model", "name"])
def test_05_show_by_model_and_by_name(runtime, key):
    shown = runtime.post("/api/show", {key: runtime.model}).json()
    assert shown["model_info"]["llama.block_count"] == 30
    assert shown["model_info"]["llama.attention.head_count_kv"] == 3
    assert shown["model_info"]["llama.context_length"] == 8192
    assert "completion" in shown["capabilities"]
    assert not {"tools", "thinking"} & set(shown["capabilities"])


def test_06_show_names_the_weights(runtime):
    runtime.needs(NAME_FILES)
    (line,) = [line for line in runtime.post("/api/show", {"model": runtime.model}).json()["modelfile"].splitlines() if line[:5] == "FROM "]
    sha256 = line.rpartition("sha256-")[2]
    assert f"sha256:{sha256}" == runtime.digest


def test_07_show_unknown_is_404(runtime):
    answer = runtime.post("/api/show", {"model": "nope:1b"})
    assert (answer.status_code, "not found" in answer.json()["error"]) == (404, True)


def test_36_ps_fields(runtime):
    runtime.needs(MOVE)
    runtime.chat()
    row = runtime.loaded()
    assert row["size"] > 0
    assert row["size_vram"] >= 0
    assert row["context_length"] == CONTEXT
    assert datetime.fromisoformat(row["expires_at"])
    assert row["digest"] == runtime.listed()["digest"]

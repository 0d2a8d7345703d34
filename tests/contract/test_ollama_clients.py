"""Unmodified clients. What any Ollama API keeps, ours and a real one; the numbers are those of the Ollama reference, section 7."""

import ollama
import pytest

from tests.contract.ollama_runtimes import MANAGE, MOVE, PARIS, STEADY


@pytest.fixture
def client(runtime):
    return ollama.Client(host=runtime.url, trust_env=False, headers=runtime.headers)


def test_44_the_ollama_package_looks_around(runtime, client):
    assert runtime.model in [model.model for model in client.list().models]
    assert client.show(runtime.model).details.family == "llama"
    with pytest.raises(ollama.ResponseError) as refused:
        client.chat("nope:1b", PARIS)
    assert refused.value.status_code == 404


def test_44_the_ollama_package_chats_and_generates(runtime, client):
    whole = client.chat(runtime.model, PARIS, options=STEADY).message.content
    assert runtime.says(whole)
    assert "".join(part.message.content for part in client.chat(runtime.model, PARIS, options=STEADY, stream=True)) == whole
    assert client.generate(runtime.model, "Say hello", options=STEADY).response
    assert len(list(client.generate(runtime.model, "Say hello", options=STEADY, stream=True))) > 1


def test_44_the_ollama_package_sees_what_is_loaded(runtime, client):
    runtime.needs(MOVE)
    client.chat(runtime.model, PARIS, options=STEADY)
    assert runtime.model in [model.model for model in client.ps().models]


def test_44_the_ollama_package_makes_and_removes_models(runtime, client):
    runtime.needs(MANAGE)
    name = f"{runtime.model}-made"
    digest = client.create_blob(runtime.weights)
    steps = [step.status for step in client.create(name, files={"model.gguf": digest}, system="Be short.", stream=True)]
    assert steps[-1] == "success"
    assert client.show(name).modelfile
    assert client.copy(name, f"{name}-copy").status == "success"
    assert client.delete(name).status == "success"
    assert client.delete(f"{name}-copy").status == "success"
    with pytest.raises(ollama.ResponseError):
        client.show(name)

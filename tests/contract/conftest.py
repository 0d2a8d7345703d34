"""The runtimes that Ollama's contract is checked against, each started once per run."""

import secrets

import pytest

from tests.contract.ollama_runtimes import KINDS, MANAGE


@pytest.fixture(scope="session", params=KINDS)
def runtime(request, tmp_path_factory):
    with request.param.running(tmp_path_factory.mktemp("runtime")) as running:
        yield running


@pytest.fixture
def create(runtime):
    """Create models, of the suite's unless told otherwise; they go when the test ends. Answers the new name."""
    runtime.needs(MANAGE)
    made = []

    def create(**more):
        name = f"gfe-contract-{secrets.token_hex(4)}:made"
        body = {"model": name, "from": runtime.model, "stream": False} | more
        answer = runtime.post("/api/create", body)
        assert answer.json() == {"status": "success"}, answer.text
        made.append(name)
        return name

    yield create
    for name in made:
        runtime.post("/api/generate", {"model": name, "keep_alive": 0})
        runtime.delete(name)

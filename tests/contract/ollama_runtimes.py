"""What the contract of Ollama's API is checked against: one class per kind of runtime, each says what the suite may ask of it."""

import hashlib
import json
import os
import secrets
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from cluster.runtime.models import SMOLLM2, Mirrors, cache_folder, fetch
from tests.scripted_runtime import ANSWER_WORDS, words_of
from tests.tiny_gguf import gguf

ROOT = Path(__file__).parents[2]
PARIS = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]
STORY = [{"role": "user", "content": "Tell me a very long story."}]
STORY_OPTIONS = {"temperature": 0, "seed": 1, "num_predict": 1500}
NUMBERS = {"type": "array", "items": {"type": "integer", "maximum": 9}, "minItems": 600}  # a format that keeps a model talking for sure
STEADY = {"temperature": 0, "seed": 1, "num_predict": 16}
CONTEXT = 2048
CALL_LIMIT_S = 120

# What a runtime may be able to do.
MANAGE = "take blobs, create, copy and delete models"
MOVE = "load and unload models for whoever asks"
PULL_KNOWN = "pull a model that it knows, without a network"
RENDER = "tell the prompt without running the model"
RAW = "generate from a raw prompt"
EMBED_BY_CHAT_MODEL = "embed with a chat model"
NAME_FILES = "name the files of its models"
BE_ALONE = "be used by the suite alone"
COUNT = "count tokens for our platform"
BE_OPENED = "be looked into while it runs"
CUT = "cut a history that is too long, in silence"
ANY_LENGTH = "make vectors of another length than one"
KNOW_HOSTS = "refuse a foreign host, as what listens on loopback should"
SPEAK_OTHERS = "speak OpenAI's and Anthropic's dialects"
FORCE_TOOLS = "hold a model to a tool that must be called"


class Runtime:
    """An Ollama API, and the model there that the suite uses.

    A kind more is a class more in `KINDS`: its `running` yields itself, with the model that it has where it takes none, and a key in its
    headers; what it does not name in `can` is skipped, with the reason.
    """

    kind = ""
    can = frozenset()

    def __init__(self, url, *, weights=None, model=None, headers=None):
        self.url, self.weights = url, weights
        self.model = model or f"gfe-contract-{secrets.token_hex(4)}:t"
        self.headers = headers or {}
        self.http = httpx2.Client(base_url=url, timeout=CALL_LIMIT_S, trust_env=False, headers=self.headers)

    def needs(self, *abilities):
        """Skip the test where this kind cannot do what it is about."""
        for ability in abilities:
            if ability not in self.can:
                pytest.skip(f"{self.kind} cannot {ability}")

    def says(self, text, messages=PARIS):
        """Whether this is the answer to a question: a model knows Paris."""
        return "Paris" in text

    # --- calls ---------------------------------------------------------------------------------------------------------------------

    def post(self, path, body, **more):
        return self.http.post(path, json=body, **more)

    def chat_body(self, messages=None, **more):
        return {"model": self.model, "messages": PARIS if messages is None else messages, "options": STEADY} | more

    def chat(self, messages=None, *, timeout_s=CALL_LIMIT_S, **more):
        return self.post("/api/chat", self.chat_body(messages, stream=False) | more, timeout=timeout_s)

    def generate(self, prompt, **more):
        return self.post("/api/generate", {"model": self.model, "prompt": prompt, "stream": False, "options": STEADY} | more)

    def lines(self, path, body):
        """The lines of a stream, each of them JSON."""
        with self.http.stream("POST", path, json=body) as answer:
            assert answer.headers["content-type"].startswith("application/x-ndjson")
            return [json.loads(line) for line in answer.iter_lines()]

    def delete(self, model):
        return self.http.request("DELETE", "/api/delete", json={"model": model})

    def listed(self, model=None):
        """The model's row in tags, None when it is not there."""
        return row_of(self.http.get("/api/tags"), model or self.model)

    def loaded(self, model=None):
        """The model's row in ps, None when it is not loaded."""
        return row_of(self.http.get("/api/ps"), model or self.model)

    # --- the suite's model ---------------------------------------------------------------------------------------------------------

    @property
    def digest(self):
        return f"sha256:{hashlib.sha256(self.weights.read_bytes()).hexdigest()}"

    @contextmanager
    def with_model(self):
        """Have the suite's model, of a name of its own, and take it away again: no other model there is touched."""
        with self.weights.open("rb") as file:
            assert self.http.post(f"/api/blobs/{self.digest}", content=file).status_code in {200, 201}
        body = {"model": self.model, "files": {"model.gguf": self.digest}, "parameters": {"num_ctx": CONTEXT}, "stream": False}
        made = self.post("/api/create", body)
        assert made.json() == {"status": "success"}, made.text
        try:
            yield self
        finally:
            self.post("/api/generate", {"model": self.model, "keep_alive": 0})
            self.delete(self.model)


class Scripted(Runtime):
    """The runtime that other tests use in place of a model."""

    kind = "the scripted runtime"
    can = frozenset({MANAGE, MOVE, PULL_KNOWN, RENDER, RAW, EMBED_BY_CHAT_MODEL, NAME_FILES, BE_ALONE, CUT, ANY_LENGTH, KNOW_HOSTS})

    def says(self, text, messages=PARIS):
        """Its words follow from the prompt."""
        return text == "".join(words_of(messages[-1]["content"], ANSWER_WORDS))

    @classmethod
    @contextmanager
    def running(cls, folder):
        weights = folder / "tiny.gguf"
        weights.write_bytes(gguf())
        with process_of("tests.scripted_runtime", "--contract") as (_process, url), cls(url, weights=weights).with_model() as runtime:
            yield runtime


class Embedded(Runtime):
    """Our own front, with SmolLM2."""

    kind = "the embedded runtime"
    can = Scripted.can | {COUNT, BE_OPENED, SPEAK_OTHERS, FORCE_TOOLS}
    process = None

    @classmethod
    @contextmanager
    def running(cls, folder, *, slots=2, more=()):
        weights = fetch(SMOLLM2, cache_folder(), Mirrors())
        arguments = ("--store", folder / "store", "--no-fetch", "--slots", slots, "--context", CONTEXT, *more)
        with process_of("cluster.runtime.front", *arguments) as (process, url), cls(url, weights=weights).with_model() as runtime:
            runtime.process = process
            yield runtime
        assert process.returncode == 0

    @property
    def children(self):
        """Process ids of the models in memory."""
        told = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in told.stdout.split()]


class Real(Runtime):
    """An Ollama that `GFE_OLLAMA_URL` names."""

    kind = "a real Ollama"
    can = Scripted.can - {PULL_KNOWN} | {SPEAK_OTHERS}

    @classmethod
    @contextmanager
    def running(cls, folder):
        weights = fetch(SMOLLM2, cache_folder(), Mirrors())
        with cls(os.environ["GFE_OLLAMA_URL"], weights=weights).with_model() as runtime:
            yield runtime


class Gateway(Scripted):
    """Our public API, with a key: consumers ask, and move nothing."""

    kind = "our public API"
    can = frozenset({RAW, EMBED_BY_CHAT_MODEL, SPEAK_OTHERS, FORCE_TOOLS})

    @classmethod
    @contextmanager
    def running(cls, folder):
        with process_of("tests.contract.gateway") as (process, url):
            yield cls(url, model=process.told["model"], headers={"Authorization": f"Bearer {process.told['key']}"})


KINDS = [
    pytest.param(Gateway, id="gateway"),
    pytest.param(Scripted, id="scripted"),
    pytest.param(Embedded, id="embedded", marks=pytest.mark.model),
    pytest.param(
        Real, id="real",
        marks=[
            pytest.mark.real_ollama,
            pytest.mark.skipif(not os.environ.get("GFE_OLLAMA_URL"), reason="GFE_OLLAMA_URL names no Ollama to compare with"),
        ],
    ),
]  # fmt: skip


@contextmanager
def process_of(module, *arguments, **settings):
    """Run a module of ours that serves, and tells its port in its first line."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | settings
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        process.told = json.loads(process.stdout.readline())
        yield process, f"http://127.0.0.1:{process.told['port']}"
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def row_of(answer, model):
    return next((row for row in answer.json()["models"] if row["name"] == model), None)

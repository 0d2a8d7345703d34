"""A worker goes on with an answer that another node began, on the embedded model: the same text as the unbroken one."""

import json
import random
import subprocess
import sys

import pytest

from cluster.gpus import NoGpus
from cluster.jobs import Admitted, Attempt, End, Fail, JobKind, Text
from cluster.node_api import serve_node
from cluster.node_client import NodeClient
from cluster.runtime.ollama import OllamaRuntime
from cluster.service_tokens import ServiceTokens, TokenVerifier
from cluster.worker import Worker
from serve_app.local.secrets import make_service_key

MODEL = "smollm2:135m"
STORY = "Tell me a long story about a dog who travels to the sea."
TOKENS = 200

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.fixture(scope="module")
def embedded_url(tmp_path_factory):
    """The embedded runtime as a process."""
    store = tmp_path_factory.mktemp("store")
    command = [
        sys.executable,
        "-P",
        "-m",
        "cluster.runtime.front",
        "--port",
        "0",
        "--store",
        str(store),
        "--slots",
        "2",
        "--context",
        "2048",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    port = None
    for line in process.stdout:
        said = json.loads(line)
        port = said.get("port", port)
        if said.get("status") == "ready":
            break
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(60)
    process.stdout.close()


@pytest.fixture
async def node(tmp_path, embedded_url):
    make_service_key(tmp_path, "serve")
    tokens = ServiceTokens((tmp_path / "service_serve.pem").read_bytes(), "serve")
    client = NodeClient(lambda: tokens.mint("node"))
    await client.start()
    worker = Worker("node_a", "a", OllamaRuntime(embedded_url), NoGpus(), slots=2)
    await worker.start()
    runner, url = await serve_node(worker, TokenVerifier((tmp_path / "service_serve.pub.pem").read_bytes(), "node"), "127.0.0.1", 0)
    yield client, url
    await client.aclose()
    await worker.aclose()
    await runner.cleanup()


def attempt(job, number, delivered=(), options=None, max_tokens=TOKENS):
    return Attempt(
        job=job, number=number, node="node_a", kind=JobKind.CHAT, model=MODEL, model_digest="", max_tokens=max_tokens, delivered=tuple(delivered),
        request={"messages": [{"role": "user", "content": STORY}], "options": options or {"temperature": 0, "seed": 1}},
    )  # fmt: skip


async def run(node, asked):
    client, url = node
    return [event async for event in client.run(url, asked)]


def text_in(events):
    return "".join(event.content for event in events if isinstance(event, Text))


def cut_at(text, tokens, at):
    """Deliver the first so many characters, as a lost node would have."""
    return [Admitted(seq=0, node="node_lost"), Text(seq=1, content=text[:at], tokens=tokens)]


async def test_cut_anywhere_the_answer_is_the_unbroken_one(node):
    whole = await run(node, attempt("job_whole", 1))
    text, end = text_in(whole), whole[-1]
    assert isinstance(end, End)
    assert len(text) > 400
    rng = random.Random(7)
    for n in range(8):
        at = rng.randrange(1, len(text))
        events = await run(node, attempt(f"job_{n}", 2, cut_at(text, 10, at)))
        assert isinstance(events[0], Admitted)
        assert events[0].seq == 2
        assert text[:at] + text_in(events) == text, f"cut at {at}: {text[:at]!r}"
        assert (events[-1].reason, events[-1].usage) == (end.reason, end.usage)


async def test_above_temperature_zero_nothing_is_lost_or_said_twice(node):
    """What was delivered stays as it is, whatever comes after it; and all of it is counted once."""
    hot = {"temperature": 1.2, "seed": 5}
    text = text_in(await run(node, attempt("job_hot", 1, options=hot, max_tokens=60)))
    for n, at in enumerate((7, len(text) // 2, len(text) - 3)):
        events = await run(node, attempt(f"job_hot_{n}", 2, cut_at(text, 10, at), options=hot | {"seed": 6 + n}, max_tokens=60))
        end = events[-1]
        assert not isinstance(end, Fail), end
        assert 0 < end.usage.completion_tokens <= 60


async def test_an_answer_that_was_at_its_limit_ends_there(node):
    text = text_in(await run(node, attempt("job_short", 1, max_tokens=20)))
    events = await run(node, attempt("job_short", 2, cut_at(text, 20, len(text)), max_tokens=20))
    assert text_in(events) == ""
    assert (events[-1].reason, events[-1].usage.completion_tokens) == ("length", 20)

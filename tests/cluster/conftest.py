"""A worker over a scripted runtime, served by the node protocol, without Ray."""

import pytest

from cluster.gpus import NoGpus
from cluster.node_api import serve_node
from cluster.node_client import NodeClient
from cluster.runtime.ollama import OllamaRuntime
from cluster.service_tokens import ServiceTokens, TokenVerifier
from cluster.worker import Worker
from serve_app.local.secrets import make_service_key
from tests.scripted_runtime import Script, serve


class RunningNode:
    def __init__(self, worker, url, client, script, tokens):
        self.worker, self.url, self.client, self.script, self.tokens = worker, url, client, script, tokens


@pytest.fixture
async def node_with(tmp_path):
    """Start nodes with some slots; what they run is scripted by the model's name."""
    make_service_key(tmp_path, "serve")
    tokens = ServiceTokens((tmp_path / "service_serve.pem").read_bytes(), "serve")
    verifier = TokenVerifier((tmp_path / "service_serve.pub.pem").read_bytes(), "node")
    client = NodeClient(lambda: tokens.mint("node"))
    await client.start()
    stops = []

    async def start(*, slots=2, has_tokenizer=False, node_id="node_a"):
        script = Script()
        script.has_tokenizer = has_tokenizer
        runtime_runner, runtime_url = await serve(script)
        worker = Worker(node_id, node_id, OllamaRuntime(runtime_url), NoGpus(), slots=slots)
        await worker.start()
        node_runner, url = await serve_node(worker, verifier, "127.0.0.1", 0)
        stops.append((node_runner, worker, runtime_runner))
        return RunningNode(worker, url, client, script, tokens)

    yield start
    await client.aclose()
    for node_runner, worker, runtime_runner in stops:
        await worker.aclose()
        await node_runner.cleanup()
        await runtime_runner.cleanup()


@pytest.fixture
async def node(node_with):
    return await node_with()

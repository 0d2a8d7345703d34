"""A node of an agent's in the platform that runs in this process: enrolled at the ledger, on the other side of the node protocol a worker."""

import contextlib
from dataclasses import replace

from cluster.gpus import NoGpus
from cluster.node_api import serve_node
from cluster.nodes import NodeKind
from cluster.runtime.ollama import OllamaRuntime
from cluster.service_tokens import TokenVerifier
from cluster.worker import Worker
from tests.edge_agent import account

WEIGHTS = "b" * 64


class Claiming(OllamaRuntime):
    """A runtime whose owner claims that its models have these weights."""

    def __init__(self, url, weights):
        super().__init__(url)
        self.weights = weights

    async def inventory(self):
        found = await super().inventory()
        return replace(found, models=tuple(replace(model, digest=self.weights) for model in found.models))


@contextlib.asynccontextmanager
async def only_edge_node(platform, database, runtime_url, weights=WEIGHTS):
    """Let a new provider's machine be the only node; answers its id and its owner."""
    owner = await account(platform.ledger, database)
    node = (await owner.enrolled())[1]
    worker = Worker(node, "edge", Claiming(runtime_url, weights), NoGpus(), slots=2)
    await worker.start()
    verifier = TokenVerifier((platform.ledger.folder / "service_serve.pub.pem").read_bytes(), "node")
    runner, url = await serve_node(worker, verifier, "127.0.0.1", 0)
    worker._set_node(url=url, kind=NodeKind.EDGE)
    others, platform.context.view.workers = platform.context.view.workers, [worker]
    await platform.context.feed.poll()
    try:
        yield node, owner
    finally:
        platform.context.view.workers = others
        await worker.aclose()
        await runner.cleanup()

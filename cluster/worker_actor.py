"""The worker as a Ray actor: Ray creates, pins, restarts and supervises it; jobs reach it by the node protocol."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from cluster.connect import remote
from cluster.gpus import gpus_of
from cluster.node_api import serve_node
from cluster.runtime.ollama import OllamaRuntime
from cluster.service_tokens import TokenVerifier
from cluster.worker import Worker

AUDIENCE = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker is told. Paths, no secrets."""

    runtime_url: str
    public_key_file: str
    host: str = "127.0.0.1"
    port: int = 0
    slots: int | None = None
    simulated_gpus: str | None = None


@remote(max_concurrency=1000)
class WorkerActor:
    """Pinned to one node; serves from its first call on, also after a restart."""

    def __init__(self, node_id: str, name: str, settings: WorkerSettings) -> None:
        self._node_id, self._name, self._settings = node_id, name, settings
        self._starting = asyncio.Lock()
        self._url: str | None = None

    async def url(self) -> str:
        """Tell where this worker serves; begin to serve at the first call."""
        async with self._starting:
            if self._url is None:
                settings = self._settings
                worker = Worker(
                    self._node_id, self._name, OllamaRuntime(settings.runtime_url), gpus_of(settings.simulated_gpus), slots=settings.slots
                )
                await worker.start()
                verifier = TokenVerifier(await asyncio.to_thread(Path(settings.public_key_file).read_bytes), AUDIENCE)
                _, self._url = await serve_node(worker, verifier, settings.host, settings.port)
        return self._url

    async def pid(self) -> int:
        """Tell the process id."""
        return os.getpid()

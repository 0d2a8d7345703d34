"""The worker as a Ray actor: Ray creates, pins, restarts and supervises it; jobs reach it by the node protocol."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from cluster import logs
from cluster.connect import remote
from cluster.gpus import gpus_of
from cluster.node_api import serve_node
from cluster.runtime.ollama import OllamaRuntime
from cluster.service_tokens import TokenVerifier
from cluster.worker import Worker

AUDIENCE = "node"
CONCURRENCY = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker is told. Paths, no secrets."""

    runtime_url: str
    public_key_file: str
    host: str = "127.0.0.1"
    port: int = 0
    slots: int | None = None
    simulated_gpus: str | None = None


@remote(max_concurrency=CONCURRENCY)
class WorkerActor:
    """Pinned to one node; serves from its first call on, also after a restart."""

    def __init__(self, node_id: str, name: str, settings: WorkerSettings) -> None:
        logs.configure("worker")
        self._node_id, self._name, self._settings = node_id, name, settings
        self._starting = asyncio.Lock()
        self._worker: Worker | None = None
        self._url: str | None = None

    async def url(self) -> str:
        """Tell where this worker serves; begin to serve at the first call."""
        async with self._starting:
            if self._url is None:
                self._url = await self._serve()
        return self._url

    async def _serve(self) -> str:
        settings = self._settings
        verifier = TokenVerifier(await asyncio.to_thread(Path(settings.public_key_file).read_bytes), AUDIENCE)
        if self._worker is None:  # else: it ran already, only its port was taken
            worker = Worker(
                self._node_id, self._name, OllamaRuntime(settings.runtime_url), gpus_of(settings.simulated_gpus), slots=settings.slots
            )
            await worker.start()
            self._worker = worker
        _, url = await serve_node(self._worker, verifier, settings.host, settings.port)
        return url

    async def pid(self) -> int:
        """Tell the process id."""
        return os.getpid()

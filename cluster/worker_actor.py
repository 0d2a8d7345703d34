"""The worker as a Ray actor: Ray creates, pins, restarts and supervises it; jobs reach it by the node protocol."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
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
PREFIX = "GFE_NODE_"  # what `gfe join` tells the worker on its own machine, by the environment of `ray start`
DRAIN_LOOK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker is told by the head: no secrets. A joined node says for itself what only it can know."""

    runtime_url: str
    public_key: str
    host: str = "127.0.0.1"
    port: int = 0
    slots: int | None = None
    simulated_gpus: str | None = None
    notes: str | None = None  # folder in which a joined node and its worker tell each other `offer`, `drain` and `drained`


def settings_on(told: WorkerSettings, environment: Mapping[str, str]) -> WorkerSettings:
    """Put what the node says in place of what the head assumed; the head's own machine says nothing."""
    here = {name.removeprefix(PREFIX): value for name, value in environment.items() if name.startswith(PREFIX)}
    if "RUNTIME_URL" not in here:
        return told
    return replace(
        told, runtime_url=here["RUNTIME_URL"], host=here["HOST"], port=int(here.get("PORT", "0")), simulated_gpus=here.get("GPUS"),
        slots=int(here["SLOTS"]) if here.get("SLOTS") else None, notes=here.get("NOTES"),
    )  # fmt: skip


@remote(max_concurrency=CONCURRENCY)
class WorkerActor:
    """Pinned to one node; serves from its first call on, also after a restart."""

    def __init__(self, node_id: str, name: str, settings: WorkerSettings) -> None:
        logs.configure("worker")
        self._node_id, self._name, self._settings = node_id, name, settings_on(settings, os.environ)
        self._starting = asyncio.Lock()
        self._worker: Worker | None = None
        self._url: str | None = None
        self._noting: asyncio.Task[None] | None = None

    async def url(self) -> str:
        """Tell where this worker serves; begin to serve at the first call."""
        async with self._starting:
            if self._url is None:
                self._url = await self._serve()
        return self._url

    async def _serve(self) -> str:
        settings = self._settings
        verifier = TokenVerifier(settings.public_key.encode(), AUDIENCE)
        if self._worker is None:  # else: it ran already, only its port was taken
            worker = Worker(
                self._node_id, self._name, OllamaRuntime(settings.runtime_url), gpus_of(settings.simulated_gpus), slots=settings.slots
            )
            await worker.start()
            self._worker = worker
            if settings.notes:
                self._noting = asyncio.create_task(keep_notes(worker, Path(settings.notes)))
        _, url = await serve_node(self._worker, verifier, settings.host, settings.port)
        return url

    async def pid(self) -> int:
        """Tell the process id."""
        return os.getpid()


async def keep_notes(worker: Worker, folder: Path) -> None:
    """Tell the machine's owner, by files of his own, that the head watches and what is offered; drain when he wishes it."""
    await worker.watched.wait()
    (folder / "offer").write_text(json.dumps(asdict(worker.node)))
    wish, done = folder / "drain", folder / "drained"
    while True:
        if wish.exists():
            if not worker.node.is_draining:
                worker.drain(worker.node.id)
            if worker.node.running == 0:
                done.touch()
        await asyncio.sleep(DRAIN_LOOK_S)

"""The worker as a Ray actor: Ray creates, pins, restarts and supervises it; jobs reach it by the node protocol."""

import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path

from cluster import logs
from cluster.connect import remote
from cluster.free_memory import reader_beside
from cluster.gpus import gpus_of
from cluster.node_api import serve_node
from cluster.runtime.ollama import OllamaRuntime
from cluster.service_tokens import TokenVerifier
from cluster.worker import Care, Worker
from cluster.worker_settings import WorkerSettings, settings_on

AUDIENCE = "node"
CONCURRENCY = 1000
DRAIN_LOOK_S = 0.5
DRAINED = "drained"


class LastingWorker(Worker):
    """A worker whose drain outlives its process: a file says that it drains."""

    _note: Path | None = None

    def keep_in(self, folder: Path) -> None:
        """Keep it in this folder from now on; drain when an earlier process did."""
        self._note = folder / "draining"
        if self._note.exists():
            super().drain(self.node.id)

    def drain(self, node: str) -> bool:
        """See `Worker.drain`."""
        is_here = super().drain(node)
        if is_here and self._note:
            self._note.touch()
        return is_here

    def resume(self, node: str) -> bool:
        """See `Worker.resume`."""
        is_here = super().resume(node)
        if is_here and self._note:
            self._note.unlink(missing_ok=True)
        return is_here


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

    def __repr__(self) -> str:
        """Name it as Ray's dashboard and logs show it."""
        return f"worker:{self._name}"

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
            care = Care(may_pull=settings.may_pull, allows_partial=settings.allows_partial, free_memory=reader_beside(settings.runtime_url))
            worker = LastingWorker(
                self._node_id, self._name, OllamaRuntime(settings.runtime_url), gpus_of(settings.simulated_gpus), slots=settings.slots,
                zone=settings.zone, care=care,
            )  # fmt: skip
            if settings.notes:
                worker.keep_in(Path(settings.notes))
            await worker.start()
            self._worker = worker
            if settings.notes:
                self._noting = asyncio.create_task(keep_notes(worker, Path(settings.notes)))
        _, url = await serve_node(self._worker, verifier, settings.host, settings.port)
        return url

    async def leave(self) -> None:
        """Note that its machine may end: nothing runs, and whoever asks ends this process next."""
        if self._noting and self._settings.notes:
            self._noting.cancel()
            (Path(self._settings.notes) / DRAINED).touch()

    async def pid(self) -> int:
        """Tell the process id."""
        return os.getpid()


async def keep_notes(worker: Worker, folder: Path) -> None:
    """Tell the machine's owner, by files of his own, that the head watches and what is offered; drain when he wishes it."""
    await worker.watched.wait()
    (folder / "offer").write_text(json.dumps(asdict(worker.node)))
    wish, done = folder / "drain", folder / DRAINED
    done.unlink(missing_ok=True)  # of a worker that left, and is wanted again
    while True:
        if wish.exists():
            if not worker.node.is_draining:
                worker.drain(worker.node.id)
            if worker.node.running == 0:
                done.touch()
        await asyncio.sleep(DRAIN_LOOK_S)

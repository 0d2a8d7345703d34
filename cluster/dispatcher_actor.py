"""The Dispatcher as the one detached actor `dispatcher` on the control node."""

import os
from pathlib import Path
from typing import Any

from cluster.connect import NAMESPACE, remote
from cluster.dispatcher import Changes, Dispatcher, Grant
from cluster.node_client import NodeClient
from cluster.pool import list_nodes, worker_url
from cluster.queue import Wait
from cluster.service_tokens import ServiceTokens
from cluster.worker_actor import AUDIENCE, WorkerSettings

NAME = "dispatcher"
CONTROL = {"control": 0.001}


@remote(max_concurrency=1000)
class DispatcherActor:
    """Starts at its first call, also after a restart: replicas and `gfe up` call all the time."""

    def __init__(self, service_key_file: str, worker_settings: WorkerSettings) -> None:
        tokens = ServiceTokens(Path(service_key_file).read_bytes(), "serve")
        self._client = NodeClient(lambda: tokens.mint(AUDIENCE))
        self._is_started = False
        self._dispatcher: Dispatcher | None = None
        self._worker_settings = worker_settings

    async def _started(self) -> Dispatcher:
        if self._dispatcher is None:
            await self._client.start()
        if self._dispatcher is None:  # another call may have been faster during the wait
            self._dispatcher = Dispatcher(list_nodes, lambda node: worker_url(node, self._worker_settings), self._client.watch)
            self._dispatcher.start()
        return self._dispatcher

    async def next_changes(self, epoch: str, version: int) -> Changes:
        """See `Dispatcher.next_changes`."""
        return await (await self._started()).next_changes(epoch, version)

    async def exchange(self, replica: str, waits: list[Wait], withdrawn: list[str], returned: list[Wait]) -> list[Grant]:
        """See `Dispatcher.exchange`."""
        return await (await self._started()).exchange(replica, waits, withdrawn, returned)

    async def status(self) -> dict[str, Any]:
        """See `Dispatcher.status`; with the process id."""
        return (await self._started()).status() | {"pid": os.getpid()}


def get_or_start(service_key_file: str, worker_settings: WorkerSettings) -> Any:
    """Answer the Dispatcher's handle; create it when there is none."""
    actor: Any = DispatcherActor  # Ray wraps the class
    return actor.options(name=NAME, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, resources=CONTROL).remote(
        service_key_file, worker_settings
    )

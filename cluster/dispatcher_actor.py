"""The Dispatcher as the one detached actor `dispatcher` on the control node."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import structlog

from cluster import logs
from cluster.connect import NAMESPACE, remote
from cluster.dispatcher import Changes, Dispatcher, EdgeMember, Grant
from cluster.metrics import TELL_S, Figures, Teller, ray_meter
from cluster.node_client import NodeClient
from cluster.pool import RayNode, end_worker, list_nodes, request_standby, retire_worker, worker_url
from cluster.queue import Standing, Wait
from cluster.service_tokens import ServiceTokens
from cluster.standby_nodes import StandbyNodes, StandbySettings
from cluster.worker_actor import AUDIENCE, CONCURRENCY
from cluster.worker_settings import WorkerSettings

NAME = "dispatcher"
ISSUER = "serve"
CONTROL = {"control": 0.001}
log = structlog.get_logger()


@remote(max_concurrency=CONCURRENCY)
class DispatcherActor:
    """Starts at its first call, also after a restart: replicas and `gfe up` call all the time."""

    def __init__(
        self,
        service_key_file: str,
        worker_settings: WorkerSettings,
        edge_urls: tuple[str, ...] = (),
        standby: StandbySettings | None = None,
    ) -> None:
        logs.configure("dispatcher")
        tokens = ServiceTokens(Path(service_key_file).read_bytes(), ISSUER)
        self._client = NodeClient(lambda: tokens.mint(AUDIENCE))
        self._starting = asyncio.Lock()
        self._dispatcher: Dispatcher | None = None
        self._standby = StandbyNodes(standby, self._client, request_standby)
        self._tasks: list[asyncio.Task[None]] = []
        self._worker_settings = worker_settings
        self._edges = tuple(map(EdgeMember, edge_urls))

    def __repr__(self) -> str:
        """Name it as Ray's dashboard and logs show it."""
        return "Dispatcher"

    async def _started(self) -> Dispatcher:
        if self._dispatcher is None:
            async with self._starting:
                if self._dispatcher is None:
                    await self._client.start()
                    dispatcher = Dispatcher(self._members, self._locate, self._client.watch, self._retire)
                    dispatcher.start()
                    self._dispatcher = dispatcher
                    self._tasks = [
                        asyncio.create_task(self._standby.look_for_ever(dispatcher)),
                        asyncio.create_task(_tell(lambda: {**dispatcher.figures(), **self._standby.figures()})),
                    ]
        return self._dispatcher

    async def _members(self) -> list[RayNode | EdgeMember]:
        return [*self._standby.running(await list_nodes()), *self._edges]

    async def _locate(self, member: RayNode | EdgeMember) -> str:
        return member.url if isinstance(member, EdgeMember) else await worker_url(member, self._worker_settings)

    async def _retire(self, member: RayNode | EdgeMember) -> None:
        if isinstance(member, RayNode):
            await (end_worker if self._standby.is_let_go(member) else retire_worker)(member)

    async def next_changes(self, epoch: str, version: int) -> Changes:
        """See `Dispatcher.next_changes`."""
        return await (await self._started()).next_changes(epoch, version)

    async def exchange(self, replica: str, waits: list[Wait], withdrawn: list[str], returned: list[Wait]) -> list[Grant]:
        """See `Dispatcher.exchange`."""
        return await (await self._started()).exchange(replica, waits, withdrawn, returned)

    async def wait_of(self, job: str) -> Standing | None:
        """See `Dispatcher.wait_of`."""
        return await (await self._started()).wait_of(job)

    async def outlook(self, model: str) -> Standing | None:
        """See `Dispatcher.outlook`."""
        return await (await self._started()).outlook(model)

    async def status(self) -> dict[str, Any]:
        """See `Dispatcher.status`; with the process id."""
        return (await self._started()).status() | {"standby": self._standby.states, "pid": os.getpid()}


async def _tell(figures: Callable[[], Figures]) -> None:
    """Tell Prometheus, for ever."""
    teller = Teller(ray_meter)
    while True:
        try:
            teller.tell(figures())
        except Exception:
            log.exception("figures_untold")
        await asyncio.sleep(TELL_S)


def get_or_start(
    service_key_file: str, worker_settings: WorkerSettings, edge_urls: tuple[str, ...] = (), standby: StandbySettings | None = None
) -> Any:
    """Answer the Dispatcher's handle; create it when there is none.

    `edge_urls`: where edge gateways serve the node protocol; without `standby` no node stands by.
    """
    actor: Any = DispatcherActor  # Ray wraps the class
    return actor.options(name=NAME, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, resources=CONTROL).remote(
        service_key_file, worker_settings, edge_urls, standby
    )


def find() -> Any:
    """Answer the Dispatcher's handle, for `ClusterView`.

    Raises:
        ValueError: There is none now.
    """
    return ray.get_actor(NAME, namespace=NAMESPACE)

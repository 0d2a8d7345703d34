"""Carries out what `cluster/standby.py` decides: Ray's autoscaler starts and ends the standby nodes, each by its name."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from cluster.dispatcher import Dispatcher
from cluster.errors import NodeLost
from cluster.metrics import STANDBY_NODES, Figures
from cluster.pool import RayNode
from cluster.standby import Orders, Standby, StandbyState

log = structlog.get_logger()
LOOK_S = 1.0
ASK_AGAIN_S = 30.0  # a head that was started anew has forgotten what it was asked for


@dataclass(frozen=True, slots=True)
class StandbySettings:
    """Which nodes stand by: `file` has an id per line, those first that start first. One is ended when the others sufficed for `idle_s`."""

    file: Path
    idle_s: float


Ask = Callable[[list[str]], Awaitable[None]]


class Drains(Protocol):
    """How a node is told to take no new jobs, or jobs again."""

    async def drain(self, url: str, node: str) -> None:
        """See `NodeClient.drain`."""

    async def resume(self, url: str, node: str) -> None:
        """See `NodeClient.resume`."""


class StandbyNodes:
    """The standby nodes of an installation; without `settings` there are none. `ask` tells the autoscaler all that are to run."""

    def __init__(self, settings: StandbySettings | None, client: Drains, ask: Ask) -> None:
        self._file, self._client, self._ask = settings and settings.file, client, ask
        self._standby = Standby(settings.idle_s if settings else 0.0)
        self._has_found = False
        self._asked: tuple[list[str], float] = ([], float("-inf"))

    @property
    def states(self) -> dict[str, str]:
        """Tell where each of them stands."""
        return dict(self._standby.states)

    def figures(self) -> Figures:
        """Count what Prometheus is told."""
        states = Counter(self._standby.states.values())
        return {(STANDBY_NODES, (state,)): states[state] for state in StandbyState}

    def running(self, nodes: Iterable[RayNode]) -> list[RayNode]:
        """List the nodes that are to have a worker: all but those that stand by."""
        nodes = list(nodes)
        if not self._has_found:
            self._standby.find((node.id for node in nodes if node.stands_by), time.monotonic())
            self._has_found = True
        return [node for node in nodes if not self.is_let_go(node)]

    def is_let_go(self, node: RayNode) -> bool:
        """Tell whether a node has no worker, or is to have none any more."""
        return self._file is not None and node.stands_by and node.id not in self._standby.wanted

    async def look_for_ever(self, dispatcher: Dispatcher) -> None:
        """Once a second: is it as it should be?"""
        while self._file:
            try:
                await self._look(dispatcher, self._file)
            except Exception:
                log.exception("standby_unseen")
            await asyncio.sleep(LOOK_S)

    async def _look(self, dispatcher: Dispatcher, file: Path) -> None:
        if not self._has_found:
            return  # the list of nodes comes first: those that run already would be ended
        before = set(self._standby.wanted)
        orders = self._standby.look(await asyncio.to_thread(names_in, file), dispatcher.nodes(), dispatcher.lines(), time.monotonic())
        for name in sorted(before ^ set(self._standby.wanted)):
            log.info("standby_let_go" if name in before else "standby_wanted", node=name)
        await self._request()
        await self._carry_out(orders)

    async def _request(self) -> None:
        wanted, now = self._standby.requested, time.monotonic()
        asked, asked_at = self._asked
        if wanted != asked or now - asked_at > ASK_AGAIN_S:
            await self._ask(wanted)
            self._asked = wanted, now

    async def _carry_out(self, orders: Orders) -> None:
        tellings = [self._client.drain(node.url, node.id) for node in orders.drain]
        tellings += [self._client.resume(node.url, node.id) for node in orders.resume]
        for telling in tellings:
            try:
                await telling
            except NodeLost as lost:
                log.info("standby_not_told", node=lost.node, reason=lost.detail)  # again in a second


def names_in(file: Path) -> list[str]:
    """Read the ids of the standby nodes, one per line; what follows a # is a remark. No file: there are none."""
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return []
    return [name for line in lines if (name := line.partition("#")[0].strip())]

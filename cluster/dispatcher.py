"""The Dispatcher: who is there, who waits, who is next (design section 5). Holds nothing that cannot be rebuilt.

A plain class over a `Membership`; `cluster/dispatcher_actor.py` makes it the one detached actor on the control node.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Protocol

import structlog

from cluster.errors import NodeLost
from cluster.limits import LIMITS, Limits
from cluster.nodes import Node, Snapshot
from cluster.placement import PlacementRequest, choose
from cluster.queue import FairQueue, Refused, Wait

log = structlog.get_logger()
LOOK_S = 1.0
CHANGES_LIMIT_S = 10.0
EXCHANGE_LIMIT_S = 5.0
COLLECT_S = 0.02  # changes are told at most this often
MATCH_S = 0.25


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since a version. `is_full`: these are all nodes (first call, or a new Dispatcher)."""

    epoch: str
    version: int
    nodes: tuple[Node, ...]
    gone: tuple[str, ...]
    waiting: dict[str, int]
    is_full: bool


@dataclass(frozen=True, slots=True)
class Grant:
    """A waiting job may go to a node, for `ticket_s`; or it is refused."""

    job: str
    node: Node | None
    refused: Refused | None = None


class Member(Protocol):
    """A node that can be watched."""

    @property
    def id(self) -> str:
        """Its node id."""


Members = Callable[[], Awaitable[Sequence[Member]]]
Locate = Callable[[Any], Awaitable[str]]
Watch = Callable[[str], AsyncIterator[Node | None]]


class Dispatcher:
    """Watches nodes, tells replicas what changed, gives free slots to waiting jobs.

    `members` lists the nodes that exist, `locate` answers where one serves, `watch` streams its state.
    """

    def __init__(self, members: Members, locate: Locate, watch: Watch, *, limits: Limits = LIMITS, rng: Random | None = None) -> None:
        self._members, self._locate, self._watch = members, locate, watch
        self._limits = limits
        self._rng = rng or Random()
        self._epoch = uuid.uuid4().hex
        self._version = 1
        self._nodes: dict[str, tuple[int, Node]] = {}
        self._gone: dict[str, int] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._queue = FairQueue()
        self._owner: dict[str, str] = {}  # job -> replica that waits for it
        self._grants: dict[str, list[Grant]] = {}
        self._tickets: list[tuple[float, str]] = []
        self._changed = asyncio.Event()
        self._granted: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to watch (inside the running loop); again is harmless."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._match_for_ever())]

    async def aclose(self) -> None:
        """Stop watching."""
        tasks = [*self._tasks, *self._watches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- watch ---------------------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Once a second: who is there? New ones are watched, lost ones dropped."""
        while True:
            try:
                members = {member.id: member for member in await self._members()}
            except Exception:
                log.exception("members_unknown")
                await asyncio.sleep(LOOK_S)
                continue
            for id_, member in members.items():
                if id_ not in self._watches or self._watches[id_].done():
                    self._watches[id_] = asyncio.create_task(self._follow(id_, member))
            for id_ in self._watches.keys() - members.keys():
                self._watches.pop(id_).cancel()
                self._drop(id_)
            await asyncio.sleep(LOOK_S)

    async def _follow(self, id_: str, member: Member) -> None:
        """Keep one connection to a node open; a closed connection is news at once."""
        while True:
            try:
                url = await self._locate(member)
                async for node in self._watch(url):
                    if node is not None:
                        self._set(replace(node, url=url))
            except asyncio.CancelledError:
                raise
            except NodeLost as lost:
                self._mark_lost(id_, str(lost))
            except Exception as broken:  # noqa: BLE001 - Ray's errors are many; each means that the worker is not there now
                self._mark_lost(id_, type(broken).__name__)
            else:
                self._mark_lost(id_, "its connection closed")
            await asyncio.sleep(0.3)

    def _set(self, node: Node) -> None:
        known = self._nodes.get(node.id)
        if known and known[1] == node:
            return
        self._version += 1
        self._nodes[node.id] = (self._version, node)
        self._gone.pop(node.id, None)
        self._match()
        self._tell()

    def _mark_lost(self, id_: str, reason: str) -> None:
        if id_ in self._nodes and self._nodes[id_][1].is_healthy:
            self._set(replace(self._nodes[id_][1], is_healthy=False, reason=reason))

    def _drop(self, id_: str) -> None:
        if self._nodes.pop(id_, None):
            self._version += 1
            self._gone[id_] = self._version
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def snapshot(self) -> Snapshot:
        """All nodes now."""
        return Snapshot(version=self._version, nodes={id_: node for id_, (_, node) in self._nodes.items()}, waiting=self._queue.waiting())

    # --- tell ----------------------------------------------------------------------------------------------------------------------

    async def next_changes(self, epoch: str, version: int) -> Changes:
        """Answer what changed since a replica's version, as soon as something has; at the latest after ten seconds."""
        if epoch == self._epoch and version >= self._version:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), CHANGES_LIMIT_S)
            await asyncio.sleep(COLLECT_S)
        is_full = epoch != self._epoch
        nodes = tuple(node for at, node in self._nodes.values() if is_full or at > version)
        gone = tuple(id_ for id_, at in self._gone.items() if at > version and not is_full)
        return Changes(self._epoch, self._version, nodes, gone, self._queue.waiting(), is_full)

    # --- queue ---------------------------------------------------------------------------------------------------------------------

    async def exchange(self, replica: str, waits: Sequence[Wait], withdrawn: Sequence[str], returned: Sequence[Wait]) -> list[Grant]:
        """Take a replica's new waits, withdrawals and tickets that met a busy node; answer grants, at the latest after five seconds."""
        for job in withdrawn:
            self._queue.remove(job)
            self._owner.pop(job, None)
        for wait in returned:
            self._owner[wait.job] = replica
            self._queue.put_back(wait)
        mine = self._grants.setdefault(replica, [])
        for wait in waits:
            refused = self._queue.add(wait, self._slots_of(wait.model))
            if refused:
                mine.append(Grant(wait.job, None, refused))
            else:
                self._owner[wait.job] = replica
        granted = self._granted.setdefault(replica, asyncio.Event())
        self._match()
        if not mine:
            with suppress(TimeoutError):
                await asyncio.wait_for(granted.wait(), EXCHANGE_LIMIT_S)
        granted.clear()
        answer, mine[:] = list(mine), []
        self._tell()
        return answer

    def _slots_of(self, model: str) -> int:
        return sum(
            node.slots for _, node in self._nodes.values() if node.is_healthy and any(offered.name == model for offered in node.models)
        )

    async def _match_for_ever(self) -> None:
        """Tickets run out by themselves: look again while anybody waits."""
        while True:
            await asyncio.sleep(MATCH_S)
            if self._queue.waiting():
                self._match()

    def _match(self) -> None:
        """Give free slots to waiting jobs, in the queue's order."""
        waiting = self._queue.waiting()
        if not waiting:
            return
        now = time.monotonic()
        self._tickets = [ticket for ticket in self._tickets if ticket[0] > now]
        snapshot = self.snapshot()
        for model in waiting:
            for wait in self._queue.in_order(model):
                request = PlacementRequest(model=model, tokens=wait.tokens, excluded=wait.excluded)
                chosen = choose(request, snapshot, self._rng, [node for _, node in self._tickets]).node
                if chosen is None:
                    break
                self._queue.take(wait.job, model)
                self._tickets.append((now + self._limits.ticket_s, chosen.id))
                replica = self._owner.pop(wait.job, "")
                self._grants.setdefault(replica, []).append(Grant(wait.job, chosen))
                self._granted.setdefault(replica, asyncio.Event()).set()

    def status(self) -> dict[str, Any]:
        """Tell what an operator wants to know."""
        return {
            "nodes": len(self._nodes),
            "healthy": sum(node.is_healthy for _, node in self._nodes.values()),
            "waiting": self._queue.waiting(),
        }

"""The cluster as a replica sees it: the last snapshot, pushed by the Dispatcher, and waiting for a slot.

A dead Dispatcher is survived: the last snapshot is used for 30 s, and what waits is told to the next Dispatcher again.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from cluster.dispatcher import Changes, Grant
from cluster.errors import ClusterUnreachable, NoCapacity
from cluster.limits import LIMITS, Limits
from cluster.nodes import Node, Snapshot
from cluster.queue import Wait

log = structlog.get_logger()
CALL_LIMIT_S = 15.0
RETRY_S = 0.5
TAKEN_S = 0.5  # how long a slot that we used counts as taken, until the snapshot shows it


class View(Protocol):
    """What a driver needs to know of the cluster."""

    @property
    def snapshot(self) -> Snapshot:
        """The nodes now.

        Raises:
            ClusterUnreachable: The snapshot is too old.
        """

    @property
    def taken(self) -> list[str]:
        """Nodes whose slots this replica used a moment ago, one entry per slot."""

    def note_placed(self, node: str) -> None:
        """Remember that a slot of the node is used."""

    async def wait_for_slot(self, wait: Wait, limit_s: float) -> Node:
        """Wait for a free slot in the Dispatcher's queue.

        Raises:
            NoCapacity: Too many wait, or none came free in time.
        """

    def put_back(self, wait: Wait) -> None:
        """Say that the ticket met a busy node."""


@dataclass(slots=True)
class _Waiting:
    wait: Wait
    granted: "asyncio.Future[Grant]"
    is_told: bool = False


class ClusterView:
    """One open call for changes, one for grants. `dispatcher` answers the actor's handle, or raises while there is none."""

    def __init__(self, dispatcher: Callable[[], Any], *, limits: Limits = LIMITS) -> None:
        self._dispatcher = dispatcher
        self._limits = limits
        self._replica = uuid.uuid4().hex
        self._epoch = ""
        self._snapshot = Snapshot(version=0)
        self._heard_at = float("-inf")
        self._taken: list[tuple[float, str]] = []
        self._waiting: dict[str, _Waiting] = {}
        self._withdrawn: list[str] = []
        self._returned: list[Wait] = []
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to listen (inside the running loop)."""
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._exchange())]

    async def aclose(self) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def age_s(self) -> float:
        """How long ago the Dispatcher was last heard."""
        return time.monotonic() - self._heard_at

    @property
    def snapshot(self) -> Snapshot:
        """The nodes now.

        Raises:
            ClusterUnreachable: The Dispatcher has been silent for too long.
        """
        if self.age_s > self._limits.snapshot_s:
            raise ClusterUnreachable
        return self._snapshot

    @property
    def taken(self) -> list[str]:
        """Nodes whose slots were used a moment ago."""
        if self._taken:
            now = time.monotonic()
            self._taken = [one for one in self._taken if one[0] > now]
        return [node for _, node in self._taken]

    def note_placed(self, node: str) -> None:
        """Remember that a slot of the node is used."""
        self._taken.append((time.monotonic() + TAKEN_S, node))

    async def _listen(self) -> None:
        while True:
            try:
                changes: Changes = await asyncio.wait_for(
                    _call(self._dispatcher, "next_changes", self._epoch, self._snapshot.version), CALL_LIMIT_S
                )
            except asyncio.CancelledError:
                raise
            except Exception as gone:  # noqa: BLE001 - Ray's errors are many; each means that the Dispatcher is not there now
                log.info("dispatcher_silent", reason=type(gone).__name__)
                await asyncio.sleep(RETRY_S)
                continue
            self._apply(changes)

    def _apply(self, changes: Changes) -> None:
        if changes.epoch != self._epoch:
            for waiting in self._waiting.values():
                waiting.is_told = False
            self._wake.set()
        nodes = {} if changes.is_full else dict(self._snapshot.nodes)
        for node in changes.nodes:
            nodes[node.id] = node
        for id_ in changes.gone:
            nodes.pop(id_, None)
        # A node whose figures are new already shows what we placed on it.
        fresh = {node.id for node in changes.nodes}
        self._taken = [one for one in self._taken if one[1] not in fresh]
        self._epoch = changes.epoch
        self._snapshot = Snapshot(version=changes.version, nodes=nodes, waiting=changes.waiting)
        self._heard_at = time.monotonic()

    # --- waiting -------------------------------------------------------------------------------------------------------------------

    async def wait_for_slot(self, wait: Wait, limit_s: float) -> Node:
        """Wait for a free slot in the Dispatcher's queue.

        Raises:
            NoCapacity: Too many wait, or none came free in time.
        """
        waiting = _Waiting(wait, asyncio.get_running_loop().create_future())
        self._waiting[wait.job] = waiting
        self._wake.set()
        try:
            grant = await asyncio.wait_for(waiting.granted, limit_s)
        except TimeoutError:
            raise NoCapacity(wait.model, (f"no slot came free within {limit_s:g} s",), 5) from None
        finally:
            self._waiting.pop(wait.job, None)
            if waiting.is_told and not (waiting.granted.done() and not waiting.granted.cancelled()):
                self._withdrawn.append(wait.job)
                self._wake.set()
        if grant.refused or grant.node is None:
            refused = grant.refused
            raise NoCapacity(wait.model, (refused.reason if refused else "refused",), refused.retry_after_s if refused else 5)
        return self._snapshot.nodes.get(grant.node.id, grant.node)

    def put_back(self, wait: Wait) -> None:
        """Say that the ticket met a busy node: the job goes to the front."""
        self._returned.append(replace(wait))
        self._wake.set()

    async def _exchange(self) -> None:
        while True:
            if not (self._waiting or self._withdrawn or self._returned):
                self._wake.clear()
                await self._wake.wait()
            new = [one for one in self._waiting.values() if not one.is_told]
            returned, self._returned = self._returned, []
            withdrawn, self._withdrawn = self._withdrawn, []
            back = {wait.job for wait in returned}
            for one in new:
                one.is_told = True
            self._wake.clear()
            waits = [one.wait for one in new if one.wait.job not in back]
            grants = await self._exchange_once(waits, withdrawn, returned)
            if grants is None:
                for one in new:
                    one.is_told = False
                self._withdrawn += withdrawn
                await asyncio.sleep(RETRY_S)
                continue
            for grant in grants:
                one_waiting = self._waiting.get(grant.job)
                if one_waiting and not one_waiting.granted.done():
                    one_waiting.granted.set_result(grant)

    async def _exchange_once(self, waits: list[Wait], withdrawn: list[str], returned: list[Wait]) -> list[Grant] | None:
        """Call the Dispatcher; come back early when there is something new to say, so that nobody waits for a long poll to end."""
        call = asyncio.ensure_future(_call(self._dispatcher, "exchange", self._replica, waits, withdrawn, returned))
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({call, woken}, timeout=CALL_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                # The long poll goes on at the Dispatcher; a second call with our news makes it answer the first one's grants too.
                asyncio.ensure_future(self._finish(call))  # noqa: RUF006 - it ends within the Dispatcher's own limit
                return []
            granted: list[Grant] = call.result()
            return granted
        except asyncio.CancelledError:
            call.cancel()
            raise
        except Exception as gone:  # noqa: BLE001 - see _listen
            log.info("dispatcher_silent", reason=type(gone).__name__)
            return None
        finally:
            woken.cancel()

    async def _finish(self, call: "asyncio.Future[list[Grant]]") -> None:
        with suppress(Exception):
            for grant in await asyncio.wait_for(call, CALL_LIMIT_S):
                waiting = self._waiting.get(grant.job)
                if waiting and not waiting.granted.done():
                    waiting.granted.set_result(grant)


async def _call(dispatcher: Callable[[], Any], method: str, *arguments: Any) -> Any:
    handle = await asyncio.to_thread(dispatcher)
    return await getattr(handle, method).remote(*arguments)

"""The cluster as a replica sees it: the last snapshot, pushed by the Dispatcher, and waiting for a slot.

A dead Dispatcher is survived: the last snapshot is used for 30 s, and what waits is told to the next Dispatcher again.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from cluster.dispatcher import Changes, Grant
from cluster.errors import ClusterUnreachable, NoCapacity
from cluster.limits import LIMITS, Limits
from cluster.nodes import Node, NodeIndex, Snapshot
from cluster.queue import ASYNC_WAIT_S, Standing, Wait

log = structlog.get_logger()
CALL_LIMIT_S = 15.0  # above the Dispatcher's own limits of a long poll
RETRY_S = 0.2
MAX_RETRY_S = 2.0
USUAL_RETRY_S = 5  # told where nobody can say more
ASK_LIMIT_S = 2.0  # a person waits for the answer
GATHER_S = 0.005  # news that comes together goes in one call
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

    def pardon(self, node: str) -> None:
        """Let the jobs that wait go to a node which something spoke against when they came, and does not any more."""

    async def wait_of(self, job: str) -> Standing | None:
        """Tell where a waiting job stands and how long it is likely to wait; None: it does not wait, or nobody can say."""

    async def outlook(self, model: str) -> Standing | None:
        """Tell where a job of a model would stand that came now; None: nobody offers it, or nobody can say."""


@dataclass(slots=True, eq=False)
class _Waiting:
    wait: Wait
    granted: "asyncio.Future[Grant]"
    is_told: bool = False


class ClusterView:
    """One open call for changes, one for grants. `dispatcher` answers the actor's handle, or raises while there is none.

    `on_return` is told of each node that was lost and is back.
    """

    def __init__(
        self, dispatcher: Callable[[], Any], *, limits: Limits = LIMITS, on_return: Callable[[str], None] = lambda _: None
    ) -> None:
        self._find = dispatcher
        self._on_return = on_return
        self._finding: asyncio.Future[Any] | None = None
        self._limits = limits
        self._replica = uuid.uuid4().hex
        self._epoch = ""
        self._index = NodeIndex()
        self._snapshot = Snapshot(0, {}, {}, self._index)
        self._heard_at = float("-inf")
        self._taken: list[tuple[float, str]] = []
        self._waiting: dict[str, _Waiting] = {}
        self._withdrawn: list[str] = []
        self._returned: dict[str, Wait] = {}
        self._has_news = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to listen (inside the running loop)."""
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._exchange())]

    async def aclose(self) -> None:
        """Stop listening."""
        tasks = [*self._tasks, *self._calls]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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

    # --- calls ---------------------------------------------------------------------------------------------------------------------

    async def _call(self, method: str, *arguments: Any) -> Any:
        async with asyncio.timeout(CALL_LIMIT_S):
            handle = await self._handle()
            return await getattr(handle, method).remote(*arguments)

    async def _handle(self) -> Any:
        """Look the Dispatcher up in a thread, once for all who ask: while Ray's head is down a look-up blocks for long."""
        if self._finding is None or (self._finding.done() and (self._finding.cancelled() or self._finding.exception())):
            self._finding = asyncio.ensure_future(asyncio.to_thread(self._find))
        return await asyncio.shield(self._finding)

    def _lost(self, error: Exception) -> None:
        log.info("dispatcher_silent", reason=type(error).__name__)
        if self._finding and self._finding.done():
            self._finding = None

    async def _listen(self) -> None:
        retry_s = RETRY_S
        while True:
            try:
                self._apply(await self._call("next_changes", self._epoch, self._snapshot.version))
                retry_s = RETRY_S
            except Exception as gone:  # noqa: BLE001 - Ray's errors are many; each means that the Dispatcher is not there now
                self._lost(gone)
                await asyncio.sleep(retry_s)
                retry_s = min(MAX_RETRY_S, 2 * retry_s)

    def _apply(self, changes: Changes) -> None:
        if changes.epoch != self._epoch:
            self._say_all_again()
        nodes = {} if changes.is_full else dict(self._snapshot.nodes)
        if changes.is_full:
            self._index = NodeIndex()
        for node in changes.nodes:
            if _is_back(self._snapshot.nodes.get(node.id), node):
                self._on_return(node.id)
                self.pardon(node.id)
            nodes[node.id] = node
            self._index.put(node)
        for id_ in changes.gone:
            nodes.pop(id_, None)
            self._index.drop(id_)
        # A node whose figures are new already shows what we placed on it.
        fresh = {node.id for node in changes.nodes}
        self._taken = [one for one in self._taken if one[1] not in fresh]
        self._epoch = changes.epoch
        self._snapshot = Snapshot(changes.version, nodes, changes.waiting, self._index)
        self._heard_at = time.monotonic()

    # --- waiting -------------------------------------------------------------------------------------------------------------------

    async def wait_for_slot(self, wait: Wait, limit_s: float) -> Node:
        """Wait for a free slot in the Dispatcher's queue.

        Raises:
            NoCapacity: Too many wait, or none came free in time.
        """
        waiting = _Waiting(wait, asyncio.get_running_loop().create_future())
        self._waiting[wait.job] = waiting
        self._has_news.set()
        try:
            async with asyncio.timeout(limit_s):
                grant = await waiting.granted
        except TimeoutError:
            standing = await self.wait_of(wait.job)
            retry_after_s = max(1, round(min(ASYNC_WAIT_S, standing.estimated_s))) if standing else USUAL_RETRY_S
            raise NoCapacity(wait.model, (f"no slot came free within {limit_s:g} s",), retry_after_s) from None
        finally:
            self._waiting.pop(wait.job, None)
            if waiting.granted.cancelled():
                self._withdraw(wait.job)
        if grant.node is None:
            refused = grant.refused
            raise NoCapacity(wait.model, (refused.reason if refused else "refused",), refused.retry_after_s if refused else USUAL_RETRY_S)
        return self._snapshot.nodes.get(grant.node.id, grant.node)

    def _withdraw(self, job: str) -> None:
        self._returned.pop(job, None)
        self._withdrawn.append(job)
        self._has_news.set()

    def put_back(self, wait: Wait) -> None:
        """Say that the ticket met a busy node: the job goes to the front. To be followed by `wait_for_slot`."""
        self._returned[wait.job] = wait
        self._has_news.set()

    def pardon(self, node: str) -> None:
        """Let the jobs that wait go to a node which something spoke against when they came, and does not any more."""
        for waiting in self._waiting.values():
            request = waiting.wait.request.pardoning(node)
            if request is not waiting.wait.request:
                waiting.wait = replace(waiting.wait, request=request)
                waiting.is_told = False
                self._has_news.set()

    async def wait_of(self, job: str) -> Standing | None:
        """Ask the Dispatcher where a job stands: any replica can, whoever drives the job, and nothing is sent while nobody asks."""
        return await self._ask("wait_of", job)

    async def outlook(self, model: str) -> Standing | None:
        """Ask the Dispatcher where a job of a model would stand."""
        return await self._ask("outlook", model)

    async def _ask(self, method: str, subject: str) -> Standing | None:
        try:
            async with asyncio.timeout(ASK_LIMIT_S):
                standing: Standing | None = await self._call(method, subject)
        except Exception as gone:  # noqa: BLE001 - see _listen
            self._lost(gone)
            return None
        return standing

    def _say_all_again(self) -> None:
        for waiting in self._waiting.values():
            waiting.is_told = False
        self._has_news.set()

    async def _exchange(self) -> None:
        """Say what is new as soon as there is something; otherwise keep one long poll open while anybody waits."""
        while True:
            if not self._waiting and not self._withdrawn and not self._returned:
                self._has_news.clear()
                await self._has_news.wait()
            await asyncio.sleep(GATHER_S)
            self._has_news.clear()
            call = asyncio.create_task(self._exchange_once())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            news = asyncio.ensure_future(self._has_news.wait())
            try:
                # News does not wait for a long poll to end: that call goes on, and whichever is answered brings the grants.
                await asyncio.wait({call, news}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()

    async def _exchange_once(self) -> None:
        returned, self._returned = self._returned, {}
        withdrawn, self._withdrawn = self._withdrawn, []
        new = [one for one in self._waiting.values() if not one.is_told]
        for one in new:
            one.is_told = True
        waits = [one.wait for one in new if one.wait.job not in returned]
        try:
            grants: list[Grant] = await self._call("exchange", self._replica, waits, withdrawn, list(returned.values()))
        except Exception as gone:  # noqa: BLE001 - see _listen
            self._lost(gone)
            self._withdrawn += withdrawn
            self._returned = {job: wait for job, wait in returned.items() if job in self._waiting} | self._returned
            await asyncio.sleep(RETRY_S)
            self._say_all_again()
            return
        for grant in grants:
            self._deliver(grant)

    def _deliver(self, grant: Grant) -> None:
        waiting = self._waiting.get(grant.job)
        if waiting and not waiting.granted.done():
            waiting.granted.set_result(grant)


def _is_back(before: Node | None, now: Node) -> bool:
    """Tell whether a node was lost and is there again, or was started anew so fast that nobody saw it go."""
    return before is not None and now.is_healthy and (not before.is_healthy or before.url != now.url)

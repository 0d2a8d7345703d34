"""The Dispatcher: who is there, who waits, who is next (design section 5). Holds nothing that cannot be rebuilt.

A plain class over the functions that reach nodes; `cluster/dispatcher_actor.py` makes it the one detached actor on the control node.
"""

import asyncio
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from itertools import takewhile
from random import Random
from typing import Any, Protocol

import structlog

from cluster.capacity import Capacity
from cluster.errors import NodeLost
from cluster.limits import LIMITS, Limits
from cluster.metrics import DISPATCHER_TOLD, NODES, NODES_LOST, OLDEST_WAIT, SLOTS, WAITING, Figures
from cluster.nodes import Node, NodeIndex, NodeKind, Snapshot
from cluster.placement import choose
from cluster.queue import FairQueue, Refused, Standing, Wait, Waiting
from cluster.tickets import Tickets

log = structlog.get_logger()
LOOK_S = 1.0
RETRY_S = 0.3
CHANGES_LIMIT_S = 10.0
RETURN_S = 15.0  # so long a node that stopped taking jobs is reckoned with: what is started anew is back by then
SETTLE_S = 5.0  # so long a new Dispatcher waits to hear from everybody before it corrects what its predecessor told
UNTOLD_SLOTS = 64  # reckoned with while a new Dispatcher has not heard from everybody
EXCHANGE_LIMIT_S = 5.0
COLLECT_S = 0.1  # changes are told at most this often
MATCH_S = 0.25
SILENT_KEPT_S = 600.0  # how long an edge node without its agent is told of
STATES = READY, DRAINING, UNWELL = "ready", "draining", "unwell"
KEPT_GONE = 1000  # nodes that left: told to replicas that did not ask since


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
    """What can be watched: the worker of one node, or an edge gateway to many. Equal members are the same one at the same place."""

    @property
    def id(self) -> str:
        """Its name among the members: a worker's is its node's id."""


@dataclass(frozen=True, slots=True)
class EdgeMember:
    """An edge gateway, by the URL of its node protocol."""

    url: str

    @property
    def id(self) -> str:
        """Its name among the members."""
        return f"edge:{self.url}"


Members = Callable[[], Awaitable[Sequence[Any]]]
Locate = Callable[[Any], Awaitable[str]]
Watch = Callable[[str], AsyncGenerator[Node | None, None]]
Retire = Callable[[Any], Awaitable[None]]


@dataclass(slots=True)
class _Replica:
    """A replica that waits for slots: what it is to be told, and whether it still asks."""

    grants: list[Grant] = field(default_factory=list)
    granted: asyncio.Event = field(default_factory=asyncio.Event)
    open_calls: int = 0
    heard_at: float = 0.0


async def _leave(member: Member) -> None:
    """Do nothing when a node leaves."""


class Dispatcher:
    """Watches nodes, tells replicas what changed, gives free slots to waiting jobs.

    `members` lists whom to watch, `locate` answers where one serves (and starts it), `watch` streams the nodes behind it, `retire` cleans up
    after one that left.
    """

    def __init__(
        self,
        members: Members,
        locate: Locate,
        watch: Watch,
        retire: Retire = _leave,
        *,
        limits: Limits = LIMITS,
        rng: Random | None = None,
    ) -> None:
        self._members, self._locate, self._watch, self._retire = members, locate, watch, retire
        self._limits = limits
        self._rng = rng or Random()
        self._epoch = uuid.uuid4().hex
        self._version = 1
        self._nodes: dict[str, tuple[int, Node]] = {}  # with the version of its last change; the newest last
        self._gone: dict[str, int] = {}
        self._seats: dict[str, Node] = {}  # the nodes with granted tickets counted as running jobs: what is given away from
        self._room = NodeIndex()  # of the seats
        self._capacities: dict[str, Capacity] = {}  # per model, while no node changes that has it
        self._followed: dict[str, tuple[Member, asyncio.Task[None]]] = {}
        self._carried: dict[str, set[str]] = {}  # member -> the nodes that it told of, and nobody else since
        self._carrier: dict[str, str] = {}  # node -> that member
        self._silent_since: dict[str, float] = {}  # edge nodes that are not well
        self._lost: Counter[NodeKind] = Counter()  # nodes that were well and are not: how often
        self._left: dict[str, tuple[Node, float]] = {}  # nodes that stopped taking jobs: as they were, and since when
        self._made_at = time.monotonic()
        self._heard: set[str] = set()  # the members that said something
        self._settled = asyncio.Event()  # everybody has
        self._queue = FairQueue()
        self._owner: dict[str, str] = {}  # job -> replica that waits for it
        self._replicas: dict[str, _Replica] = {}
        self._tickets = Tickets(limits.ticket_s)
        self._told_waiting: dict[str, int] = {}
        self._turns: dict[str, int] = {}  # model -> the number of its line's last grant: the one that waits longest is next
        self._turn = 0
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to watch (inside the running loop); again is harmless."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._look_for_ever()), asyncio.create_task(self._match_for_ever())]

    async def aclose(self) -> None:
        """Stop watching."""
        tasks = [*self._tasks, *(task for _, task in self._followed.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- watch ---------------------------------------------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        """Once a second: who is there?"""
        while True:
            try:
                await self._look()
            except Exception:
                log.exception("members_unknown")
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        """Follow new nodes, drop lost ones; one that came back at another place is both."""
        there: dict[str, Member] = {}
        for member in await self._members():
            followed = self._followed.get(member.id)
            if member.id not in there or (followed and followed[0] == member):
                there[member.id] = member
        for id_, (member, task) in list(self._followed.items()):
            if there.get(id_) != member:
                del self._followed[id_]
                task.cancel()
                for node in self._carried.pop(id_, ()):
                    self._drop(node)
                self._heard.discard(id_)
                await self._retire(member)
        for id_, member in there.items():
            if id_ not in self._followed:
                self._followed[id_] = (member, asyncio.create_task(self._follow(id_, member)))
        self._settle()
        self._forget_silent_nodes(time.monotonic())

    def _forget_silent_nodes(self, now: float) -> None:
        """Edge nodes come and go: one that has not been well for long is not told of any more."""
        silent = {id_ for id_, (_, node) in self._nodes.items() if node.kind is NodeKind.EDGE and not node.is_healthy}
        self._silent_since = {id_: self._silent_since.get(id_, now) for id_ in silent}
        for id_, since in self._silent_since.items():
            if now - since > SILENT_KEPT_S:
                self._drop(id_)

    async def _follow(self, id_: str, member: Member) -> None:
        """Keep one connection to a member open; a closed connection is news at once."""
        while True:
            try:
                url = await self._locate(member)
                async with aclosing(self._watch(url)) as news:
                    async for node in news:
                        if node is not None:
                            self._hear(id_, replace(node, url=url))
                        if id_ not in self._heard:
                            self._heard.add(id_)
                            self._settle()
                self._mark_lost(id_, "its connection closed")
            except NodeLost as lost:
                self._mark_lost(id_, lost.detail)
            except Exception as broken:  # noqa: BLE001 - Ray's errors are many; each means that the worker is not there now
                self._mark_lost(id_, f"its worker does not answer ({type(broken).__name__})")
            await asyncio.sleep(RETRY_S)

    def _settle(self) -> None:
        if self._followed.keys() <= self._heard:
            self._settled.set()

    def _hear(self, member: str, node: Node) -> None:
        """Take what a member tells of a node; of an edge node what the edge gateway tells that its agent reached last."""
        known = self._nodes.get(node.id)
        if known and self._carrier.get(node.id) != member and known[1].epoch > node.epoch:
            return
        if (other := self._carrier.get(node.id)) != member:
            self._carried.get(other or "", set()).discard(node.id)
            self._carried.setdefault(member, set()).add(node.id)
            self._carrier[node.id] = member
        self._set(node)

    def _set(self, node: Node) -> None:
        known = self._nodes.get(node.id)
        if known and known[1] == node:
            return
        if known and node.url == known[1].url and node.admitted >= known[1].admitted:
            self._tickets.used(node.id, node.admitted - known[1].admitted)
        else:
            self._tickets.drop(node.id)
        if known is None or _offer_of(known[1]) != _offer_of(node):
            self._capacities.clear()
        if known and known[1].is_healthy and not node.is_healthy:
            self._lost[node.kind] += 1
        if _state_of(node) == READY:
            self._left.pop(node.id, None)
        elif known and _state_of(known[1]) == READY:
            self._left[node.id] = known[1], time.monotonic()
        self._version += 1
        self._nodes.pop(node.id, None)
        self._nodes[node.id] = (self._version, node)
        self._gone.pop(node.id, None)
        self._seat(node)
        self._tell()

    def _seat(self, node: Node) -> None:
        """Count a node's free slots anew; if it has some, give them away."""
        given = self._tickets.outstanding(node.id)
        self._seats[node.id] = seat = replace(node, running=node.running + given) if given else node
        self._room.put(seat)
        if seat.has_room:
            self._match({model.name for model in node.models})

    def _mark_lost(self, member: str, reason: str) -> None:
        for id_ in self._carried.get(member, ()):
            if id_ in self._nodes and self._nodes[id_][1].is_healthy:
                log.info("node_lost", node=id_, reason=reason)
                self._set(replace(self._nodes[id_][1], is_healthy=False, reason=reason))

    def _drop(self, id_: str) -> None:
        self._carried.get(self._carrier.pop(id_, ""), set()).discard(id_)
        self._tickets.drop(id_)
        self._room.drop(id_)
        self._seats.pop(id_, None)
        self._capacities.clear()
        if left := self._nodes.pop(id_, None):
            log.info("node_left", node=id_)
            if _state_of(left[1]) == READY:  # who leaves by intent is drained before
                self._lost[left[1].kind] += 1
            self._version += 1
            self._gone[id_] = self._version
            if len(self._gone) > KEPT_GONE:
                del self._gone[next(iter(self._gone))]
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def snapshot(self) -> Snapshot:
        """All nodes now."""
        return Snapshot.of(self._version, self.nodes(), self._queue.waiting())

    def nodes(self) -> dict[str, Node]:
        """All nodes by their ids."""
        return {id_: node for id_, (_, node) in self._nodes.items()}

    def lines(self) -> dict[str, Waiting]:
        """The lines in which anybody waits, by model."""
        return self._queue.lines(time.monotonic())

    # --- tell ----------------------------------------------------------------------------------------------------------------------

    async def next_changes(self, epoch: str, version: int) -> Changes:
        """Answer what changed since a replica's version, as soon as something has; at the latest after ten seconds.

        Who knows the nodes of an earlier Dispatcher keeps them until this one has heard from everybody: else nobody were there for a moment.
        """
        if epoch and epoch != self._epoch:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + SETTLE_S - (time.monotonic() - self._made_at)):
                    await self._settled.wait()
                    await asyncio.sleep(COLLECT_S)
        if epoch == self._epoch and version >= self._version:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHANGES_LIMIT_S):
                    await self._changed.wait()
                    await asyncio.sleep(COLLECT_S)
        is_full = epoch != self._epoch
        nodes = tuple(node for _, node in takewhile(lambda one: is_full or one[0] > version, reversed(self._nodes.values())))
        gone = () if is_full else tuple(id_ for id_, at in self._gone.items() if at > version)
        return Changes(self._epoch, self._version, nodes, gone, self._queue.waiting(), is_full)

    # --- queue ---------------------------------------------------------------------------------------------------------------------

    async def exchange(self, replica: str, waits: Sequence[Wait], withdrawn: Sequence[str], returned: Sequence[Wait]) -> list[Grant]:
        """Take a replica's new waits, withdrawals and tickets that met a busy node; answer grants, at the latest after five seconds.

        A wait that is known already is not added again, so a replica that is not sure says it again.
        """
        known = self._replicas.setdefault(replica, _Replica())
        known.open_calls += 1
        known.granted.set()  # an older call of this replica is answered: one is enough
        known.granted = granted = asyncio.Event()
        try:
            self._take_in(replica, known, waits, withdrawn, returned)
            if not known.grants:
                with suppress(TimeoutError):
                    async with asyncio.timeout(EXCHANGE_LIMIT_S):
                        await granted.wait()
            answer, known.grants = known.grants, []
            return answer
        finally:
            known.open_calls -= 1
            known.heard_at = time.monotonic()

    def _take_in(self, replica: str, known: _Replica, waits: Sequence[Wait], withdrawn: Sequence[str], returned: Sequence[Wait]) -> None:
        now = time.monotonic()
        for job in withdrawn:
            self._queue.remove(job)
            self._owner.pop(job, None)
        for wait in returned:
            self._owner[wait.job] = replica
            self._queue.put_back(wait, now)
        granted = {grant.job for grant in known.grants}
        for wait in waits:
            if wait.job not in granted:
                self._add(replica, known, wait, now)
        self._match({wait.model for wait in (*returned, *waits)})

    def _add(self, replica: str, known: _Replica, wait: Wait, now: float) -> None:
        capacity = self._capacity(wait.model)
        if refused := self._queue.add(wait, capacity.slots + self._expected(wait.model, now), now, job_s=capacity.job_s):
            known.grants.append(Grant(wait.job, None, refused))
        else:
            self._owner[wait.job] = replica

    def _expected(self, model: str, now: float) -> int:
        """Count the slots that will soon be here: of nodes that are started anew, or that a new Dispatcher has not heard of yet.

        A restart would else turn away who could have waited a moment.
        """
        for id_ in [id_ for id_, (_, since) in self._left.items() if now - since > RETURN_S]:
            del self._left[id_]
        is_new = now - self._made_at < RETURN_S and not self._settled.is_set()
        back = sum(node.slots for node, _ in self._left.values() if any(one.name == model and one.is_admitted for one in node.models))
        return back + UNTOLD_SLOTS * is_new

    async def wait_of(self, job: str) -> Standing | None:
        """Tell where a job stands in its line; None: it does not wait."""
        if (model := self._queue.model_of(job)) is None:
            return None
        capacity = self._capacity(model)
        return self._queue.standing(job, capacity.slots, time.monotonic(), job_s=capacity.job_s)

    async def outlook(self, model: str) -> Standing | None:
        """Tell where a job of a model would stand that came now; None: no node takes such jobs."""
        capacity = self._capacity(model)
        if not capacity.slots:
            return None
        ahead = self._queue.waiting().get(model, 0)
        if not ahead and self._room.has_room(model):
            return Standing(0, 0.0)
        return Standing(ahead, self._queue.estimated_wait_s(model, capacity.slots, time.monotonic(), job_s=capacity.job_s))

    def _capacity(self, model: str) -> Capacity:
        if model not in self._capacities:
            self._capacities[model] = Capacity.of(self._room.admitted(model), self._seats)
        return self._capacities[model]

    def _tell_waiting(self) -> None:
        """Who waits is part of what replicas know: while anybody does, nobody overtakes."""
        waiting = self._queue.waiting()
        if waiting != self._told_waiting:
            self._told_waiting = waiting
            self._version += 1
            self._tell()

    async def _match_for_ever(self) -> None:
        """Tickets run out, replicas die and nodes get well by themselves: look again while anybody waits."""
        look_again_at = 0.0
        while True:
            await asyncio.sleep(MATCH_S)
            try:
                now = time.monotonic()
                self._forget_silent_replicas(now)
                for id_ in self._tickets.run_out(now):
                    self._seat(self._nodes[id_][1])
                if now >= look_again_at:
                    self._queue.forgive(now)
                    self._match(self._queue.waiting())
                    look_again_at = now + LOOK_S
                self._tell_waiting()
            except Exception:
                log.exception("match_failed")

    def _forget_silent_replicas(self, now: float) -> None:
        """What a dead replica waited for must not take slots."""
        for name, replica in list(self._replicas.items()):
            if replica.open_calls or now - replica.heard_at <= self._limits.absent_s:
                continue
            del self._replicas[name]
            for job in [job for job, owner in self._owner.items() if owner == name]:
                self._queue.remove(job)
                del self._owner[job]

    def _match(self, models: Iterable[str]) -> None:
        """Give free slots to jobs that wait for these models, in the order of each line, the lines in turns."""
        now = time.monotonic()
        waiting = sorted(self._queue.waiting().keys() & models, key=lambda model: self._turns.get(model, 0))
        lines = deque((model, iter(self._queue.in_order(model))) for model in waiting if self._room.has_room(model))
        while lines:
            model, waits = lines.popleft()
            if self._grant_next(model, waits, now):
                lines.append((model, waits))
        self._tell_waiting()

    def _grant_next(self, model: str, waits: Iterator[Wait], now: float) -> bool:
        """Give a slot to the next job that some free node suits; one that none suits does not hold up those behind it."""
        free = Snapshot(self._version, self._seats, {}, self._room)
        for wait in waits:
            if not self._room.has_room(model):
                return False
            if chosen := choose(wait.request, free, self._rng):
                self._grant(wait, chosen, now)
                return True
        return False

    def _grant(self, wait: Wait, seat: Node, now: float) -> None:
        self._queue.take(wait.job, now)
        owner = self._replicas.get(self._owner.pop(wait.job, ""))
        if owner is None:
            return
        self._turn += 1
        self._turns[wait.model] = self._turn
        self._tickets.give(seat.id, now)
        self._seats[seat.id] = fuller = replace(seat, running=seat.running + 1)
        self._room.put(fuller)
        owner.grants.append(Grant(wait.job, self._nodes[seat.id][1]))
        owner.granted.set()

    def status(self) -> dict[str, Any]:
        """Tell what an operator wants to know."""
        nodes = [node for _, node in self._nodes.values()]
        return {
            "nodes": len(nodes),
            "healthy": sum(node.is_healthy for node in nodes),
            "waiting": self._queue.waiting(),
            "reasons": {node.id: node.reason for node in nodes if node.reason},
        }

    def figures(self) -> Figures:
        """Count what Prometheus is told."""
        nodes = [node for _, node in self._nodes.values()]
        able = [node for node in nodes if _state_of(node) == READY]
        states = Counter((node.kind, _state_of(node)) for node in nodes)
        return {
            **{(NODES, (kind, state)): states[kind, state] for kind in NodeKind for state in STATES},
            **{(NODES_LOST, (kind,)): self._lost[kind] for kind in NodeKind},
            (SLOTS, ("busy",)): sum(min(node.running, node.slots) for node in able),
            (SLOTS, ("free",)): sum(node.free for node in able),
            (WAITING, ()): sum(self._queue.waiting().values()),
            (OLDEST_WAIT, ()): self._queue.oldest_s(time.monotonic()),
            (DISPATCHER_TOLD, ()): time.time(),
        }


def _state_of(node: Node) -> str:
    if not node.is_healthy:
        return UNWELL
    return DRAINING if node.is_draining else READY


def _offer_of(node: Node) -> tuple[object, ...]:
    """What a model's capacity depends on."""
    return node.slots, node.is_healthy, node.is_draining, node.models

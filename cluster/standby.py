"""Standby nodes: machines of the operator's that start when jobs wait, and end when the others suffice. Pure: the clock is an argument.

`cluster/standby_nodes.py` tells Ray's autoscaler by name which of them are wanted. One that is not any more is drained first; it is let go
when its last job has ended.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from statistics import fmean

from cluster.nodes import Node, NodeKind
from cluster.queue import Waiting

GROW_AFTER_S = 10.0  # a job that waited so long; most slots come free sooner by themselves
START_LIMIT_S = 900.0  # a machine with a GPU, an image, a model's load: what takes longer is not waited for, and others start too
SPARE_SHARE = 0.2  # of the others' slots, that must have been left


class StandbyState(StrEnum):
    """Where a standby node stands. `LATE`: it was wanted long ago, and is not here."""

    OFF = "off"
    COMING = "coming"
    LATE = "late"
    RUNNING = "running"
    LEAVING = "leaving"


@dataclass(slots=True)
class _Wanted:
    """A node that is to run. `well_at`: when it was last, or when it was asked for. `is_found`: it ran when this Dispatcher began."""

    well_at: float
    is_found: bool = False
    is_serving: bool = False  # it came, and takes jobs
    is_leaving: bool = False


@dataclass(frozen=True, slots=True)
class Orders:
    """What nodes are to be told; said again until they do it."""

    drain: tuple[Node, ...] = ()
    resume: tuple[Node, ...] = ()


class Standby:
    """Which standby nodes are wanted. A new one knows nothing: those that run are taken over (`find`).

    `idle_s`: one leaves when the others have sufficed for so long.
    """

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._names: tuple[str, ...] = ()
        self._wanted: dict[str, _Wanted] = {}
        self._models: dict[str, frozenset[str]] = {}  # what each had when it ran last; unknown: it may have any
        self._suffices_since: dict[str, float] = {}  # nodes without which the others would do
        self._states: dict[str, StandbyState] = {}

    @property
    def wanted(self) -> Collection[str]:
        """Name the nodes that are to run, those that end their last jobs among them."""
        return self._wanted.keys()

    @property
    def requested(self) -> list[str]:
        """Name those of them that can be asked for: one that is on the list no more may have no group any more."""
        return [name for name in self._names if name in self._wanted]

    @property
    def states(self) -> Mapping[str, StandbyState]:
        """Tell where each standby node stands."""
        return self._states

    def find(self, running: Iterable[str], now: float) -> None:
        """Take over those that run already."""
        for name in running:
            self._wanted.setdefault(name, _Wanted(now, is_found=True))

    def look(self, names: Sequence[str], nodes: Mapping[str, Node], lines: Mapping[str, Waiting], now: float) -> Orders:
        """Decide anew. `names`: all standby nodes, those first that start first; `nodes` and `lines` as the Dispatcher knows them."""
        self._names = tuple(dict.fromkeys(names))
        for name in self._wanted.keys() | set(self._names):
            if (node := nodes.get(name)) and node.is_healthy:
                self._note(node, now)
        for name in self._wanted.keys() - set(self._names):
            self._wanted[name].is_leaving = True
        self._let_go(nodes, lines, now)
        if late := {model: line.jobs for model, line in lines.items() if line.oldest_s >= GROW_AFTER_S}:
            self._grow(late, nodes, now)
        else:
            self._shrink(nodes, lines, now)
        self._states = {name: self._state(name, nodes, now) for name in self._names}
        return self._orders(nodes)

    def _note(self, node: Node, now: float) -> None:
        """Take what a node shows that is well."""
        self._models[node.id] = frozenset(model.name for model in node.models)
        if wanted := self._wanted.get(node.id):
            wanted.well_at = now
            wanted.is_serving = wanted.is_serving or not node.is_draining
            if wanted.is_found:  # and drained by the Dispatcher before, or by its operator
                wanted.is_found, wanted.is_serving, wanted.is_leaving = False, True, node.is_draining

    def _state(self, name: str, nodes: Mapping[str, Node], now: float) -> StandbyState:
        if (wanted := self._wanted.get(name)) is None:
            return StandbyState.OFF
        if wanted.is_leaving:
            return StandbyState.LEAVING
        if (node := nodes.get(name)) and node.is_healthy:
            return StandbyState.RUNNING
        return StandbyState.COMING if now - wanted.well_at < START_LIMIT_S else StandbyState.LATE

    def _let_go(self, nodes: Mapping[str, Node], lines: Mapping[str, Waiting], now: float) -> None:
        """Want those no more that have nothing left to do, nor one that never came while nobody waits."""
        for name, wanted in list(self._wanted.items()):
            node = nodes.get(name)
            is_done = wanted.is_leaving and (node is None or (node.is_draining and not node.running))
            is_vain = node is None and not lines and now - wanted.well_at > self._idle_s
            if is_done or is_vain:
                del self._wanted[name]

    def _grow(self, late: Mapping[str, int], nodes: Mapping[str, Node], now: float) -> None:
        """Want as many more as hold the jobs that wait, less those that are coming; one that is leaving stays, which is the quickest."""
        self._suffices_since.clear()
        slots = max(1.0, fmean([node.slots for node in nodes.values() if node.kind is NodeKind.TRUSTED] or [1]))
        coming = sum(not one.is_serving and now - one.well_at < START_LIMIT_S for one in self._wanted.values())
        missing = ceil(sum(late.values()) / slots) - coming
        able = [name for name in self._names if name not in self._models or self._models[name] & late.keys()]
        leaving = [name for name in able if name in self._wanted and self._wanted[name].is_leaving]
        for name in [*leaving, *(name for name in able if name not in self._wanted)][: max(0, missing)]:
            self._wanted[name] = _Wanted(now)

    def _shrink(self, nodes: Mapping[str, Node], lines: Mapping[str, Waiting], now: float) -> None:
        """Let one node leave when the others would have done for long enough: the one with the fewest jobs."""
        if any(wanted.is_leaving for wanted in self._wanted.values()):
            return
        ready = {name: node for name, node in nodes.items() if node.is_healthy and not node.is_draining}
        spare = {
            name
            for name in self._wanted
            if name in ready and not lines.keys() & self._models[name] and _suffice_without(ready[name], ready)
        }
        self._suffices_since = {name: self._suffices_since.get(name, now) for name in spare}
        due = [name for name, since in self._suffices_since.items() if now - since >= self._idle_s]
        if due:
            self._wanted[min(due, key=lambda name: ready[name].running)].is_leaving = True
            self._suffices_since.clear()

    def _orders(self, nodes: Mapping[str, Node]) -> Orders:
        drain, resume = [], []
        for name, wanted in self._wanted.items():
            if (node := nodes.get(name)) is None or not node.is_healthy:
                continue
            if wanted.is_leaving and not node.is_draining:
                drain.append(node)
            elif node.is_draining and not wanted.is_serving:
                resume.append(node)
        return Orders(tuple(drain), tuple(resume))


def _suffice_without(one: Node, ready: Mapping[str, Node]) -> bool:
    """Tell whether the others that share a model with it could take its jobs too, and each of its models is on one of them."""
    mine = {model.name for model in one.models}
    free = slots = 0
    missing = {model.name for model in one.models if model.is_admitted}
    for other in ready.values():
        theirs = {model.name for model in other.models if model.is_admitted}
        if other is not one and theirs & mine:
            free, slots = free + other.free, slots + other.slots
            missing -= theirs
    return not missing and free - one.running >= SPARE_SHARE * slots

"""Who is there: nodes, what they offer, and the snapshot that replicas place by."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class NodeKind(StrEnum):
    """Whose machine it is: the operator's (joined through Ray) or anybody's (an agent that dials out)."""

    TRUSTED = "trusted"
    EDGE = "edge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One device, or a MIG device of a card. None: the driver cannot say."""

    uuid: str
    name: str
    total_bytes: int
    free_bytes: int
    driver: str | None = None
    compute_capability: str | None = None
    utilization_percent: int | None = None
    temperature_c: int | None = None
    mig: bool | None = None  # whether the card is cut into MIG devices; it then computes through them alone
    part_of: str | None = None  # of a MIG device: the uuid of its card
    is_measured: bool = True  # False: known by the runtime's report alone, which tells what it uses and not what is free


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedModel:
    """A model that a node has. `digest` is the sha256 of the GGUF, `context_tokens` what one slot can hold."""

    name: str
    digest: str
    size_bytes: int
    context_tokens: int
    is_loaded: bool
    capabilities: tuple[str, ...] = ("completion",)
    has_tokenizer: bool = False
    fits: bool = True  # by the node's own reckoning there is memory to load it
    needed_bytes: int | None = None  # memory by the formula; None: the runtime does not tell the model's shape
    took_bytes: int | None = None  # memory that it takes, as the runtime says; None: not loaded
    gpu_bytes: int | None = None  # of which in a GPU's memory
    trouble: str = ""  # what is not as it should be with it, in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One provider machine as the cluster sees it now. `url` is where it serves the node protocol."""

    id: str
    name: str
    kind: NodeKind
    url: str
    slots: int
    running: int
    models: tuple[OfferedModel, ...]
    gpus: tuple[Gpu, ...] = ()
    runtime: str = ""
    admitted: int = 0  # attempts taken since the node started: tells which tickets were used
    is_healthy: bool = True
    is_draining: bool = False
    reason: str = ""  # why it is unhealthy or draining, or what its operator should know, one sentence
    operation: str = ""  # what is done with its models now, in words

    @property
    def free(self) -> int:
        """Count the slots that nobody uses."""
        return max(0, self.slots - self.running)


class NodeIndex:
    """Which nodes have which model, loaded or not; kept up to date node by node, so that nobody has to look at all of them."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._models: dict[str, dict[str, OfferedModel]] = {}  # node -> its models by name
        self._having: dict[tuple[str, bool], _Ids] = {}  # (model, loaded) -> nodes
        for node in nodes:
            self.put(node)

    def put(self, node: Node) -> None:
        """Take a node in, in place of what was known of it."""
        known = self._models.get(node.id, {})
        found = {model.name: model for model in node.models}
        if known == found:
            return
        self.drop(node.id)
        self._models[node.id] = found
        for model in found.values():
            self._having.setdefault((model.name, model.is_loaded), _Ids()).add(node.id)

    def drop(self, id_: str) -> None:
        """Forget a node."""
        for model in self._models.pop(id_, {}).values():
            ids = self._having[model.name, model.is_loaded]
            ids.remove(id_)
            if not ids.all:
                del self._having[model.name, model.is_loaded]

    def offering(self, model: str, *, is_loaded: bool) -> Sequence[str]:
        """List the nodes that have a model, in no order."""
        ids = self._having.get((model, is_loaded))
        return ids.all if ids else ()

    def model(self, id_: str, name: str) -> OfferedModel | None:
        """Look up what a node has by a name."""
        return self._models.get(id_, {}).get(name)


class _Ids:
    """A set that can be sampled: removal puts the last one in the gap."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._place: dict[str, int] = {}

    def add(self, id_: str) -> None:
        self._place[id_] = len(self.all)
        self.all.append(id_)

    def remove(self, id_: str) -> None:
        place, last = self._place.pop(id_), self.all.pop()
        if last != id_:
            self.all[place] = last
            self._place[last] = place


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All nodes at one version of the Dispatcher's view; `waiting` counts queued jobs per model. `index` is of the same nodes."""

    version: int
    nodes: Mapping[str, Node]
    waiting: Mapping[str, int]
    index: NodeIndex

    @classmethod
    def of(cls, version: int, nodes: Mapping[str, Node], waiting: Mapping[str, int] | None = None) -> Self:
        """Make one with an index of its own."""
        return cls(version, nodes, waiting or {}, NodeIndex(nodes.values()))

    def models(self) -> dict[str, list[Node]]:
        """List the offered models and the nodes that have each."""
        offered: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            for model in node.models:
                offered.setdefault(model.name, []).append(node)
        return offered

"""Who is there: nodes, what they offer, and the snapshot that replicas place by."""

from collections.abc import Iterable, Mapping
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
    fits: bool = True  # by the node's own reckoning its memory is large enough
    # What its jobs showed (`cluster/speed.py`); None until some ended.
    tokens_per_s: float | None = None  # of one answer, while others run beside it
    first_token_s: float | None = None  # median, with the model loaded
    first_token_p99_s: float | None = None
    job_s: float | None = None  # mean time that a job takes a slot
    needed_bytes: int | None = None  # memory by the formula; None: the runtime does not tell the model's shape
    took_bytes: int | None = None  # memory that it takes, as the runtime says; None: not loaded
    gpu_bytes: int | None = None  # of which in a GPU's memory
    trouble: str = ""  # what is not as it should be with it, in words
    manifest: str = ""  # the digest of what the runtime calls the model, where that is known apart from the file's
    is_admitted: bool = True  # False: of an edge node, and its canaries have not passed: no consumer's job goes there


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One provider machine as the cluster sees it now. `url` is where it serves the node protocol.

    `zone` is where it stands, in the operator's words; `price` in micro-credits per million tokens of an answer, None: the platform's own.
    """

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
    zone: str = ""
    price: int | None = None
    operation: str = ""  # what is done with its models now, in words
    epoch: int = 0  # of an edge node: grows with each connection of its agent, whichever edge gateway that reaches

    @property
    def has_room(self) -> bool:
        """Tell whether it takes a job now."""
        return self.is_healthy and not self.is_draining and self.running < self.slots

    @property
    def free(self) -> int:
        """Count the slots that nobody uses."""
        return max(0, self.slots - self.running)


@dataclass(frozen=True, slots=True)
class Kin:
    """What nodes that offer the same have in common: a filter looks at it once for all of them."""

    kind: NodeKind
    price: int | None
    digest: str
    context_tokens: int
    capabilities: tuple[str, ...]
    is_loaded: bool
    fits: bool
    is_admitted: bool

    @classmethod
    def of(cls, node: Node, model: OfferedModel) -> Self:
        """Describe one node's offer."""
        return cls(
            node.kind, node.price, model.digest, model.context_tokens, model.capabilities, model.is_loaded, model.fits, model.is_admitted
        )


class Group:
    """Nodes that offer the same of a model. Those with room now can be sampled: removal puts the last one in the gap."""

    def __init__(self, kin: Kin) -> None:
        self.kin = kin
        self.members = 0
        self.with_room: list[str] = []
        self._place: dict[str, int] = {}

    def open(self, id_: str) -> None:
        """A member has room."""
        self._place[id_] = len(self.with_room)
        self.with_room.append(id_)

    def close(self, id_: str) -> None:
        """A member has none any more."""
        place, last = self._place.pop(id_), self.with_room.pop()
        if last != id_:
            self.with_room[place] = last
            self._place[last] = place


class NodeIndex:
    """Nodes by what they offer, those apart that have room now; kept up to date node by node, so that nobody has to look at all of them."""

    def __init__(self, nodes: Iterable[Node] = ()) -> None:
        self._nodes: dict[str, Node] = {}
        self._offers: dict[str, dict[str, OfferedModel]] = {}  # model -> node -> what it has
        self._groups: dict[str, dict[Kin, Group]] = {}  # model -> its groups
        self._groups_of: dict[str, list[Group]] = {}  # node -> its groups, one per model
        self._longest: dict[str, int] = {}  # contexts that somebody asked for
        for node in nodes:
            self.put(node)

    def put(self, node: Node) -> None:
        """Take a node in, in place of what was known of it."""
        known = self._nodes.get(node.id)
        if known is None or not _offers_the_same(known, node):
            self.drop(node.id)
            self._add(node)
        elif known.has_room != node.has_room:
            for group in self._groups_of[node.id]:
                (group.open if node.has_room else group.close)(node.id)
        self._nodes[node.id] = node

    def _add(self, node: Node) -> None:
        mine = self._groups_of[node.id] = []
        for name, model in {model.name: model for model in node.models}.items():
            self._offers.setdefault(name, {})[node.id] = model
            self._longest.pop(name, None)
            kin = Kin.of(node, model)
            groups = self._groups.setdefault(name, {})
            group = groups.get(kin) or groups.setdefault(kin, Group(kin))
            group.members += 1
            if node.has_room:
                group.open(node.id)
            mine.append(group)

    def drop(self, id_: str) -> None:
        """Forget a node."""
        node = self._nodes.pop(id_, None)
        if node is None:
            return
        for name, group in zip({model.name: None for model in node.models}, self._groups_of.pop(id_), strict=True):
            if node.has_room:
                group.close(id_)
            self._longest.pop(name, None)
            del self._offers[name][id_]
            group.members -= 1
            if not group.members:
                del self._groups[name][group.kin]
            if not self._offers[name]:
                del self._offers[name], self._groups[name]

    def groups(self, model: str) -> Iterable[Group]:
        """List the groups of nodes that have a model."""
        return self._groups.get(model, {}).values()

    def has_room(self, model: str) -> bool:
        """Tell whether any node that is admitted for a model has room now."""
        return any(group.with_room for group in self.groups(model) if group.kin.is_admitted)

    def offers(self, model: str) -> Mapping[str, OfferedModel]:
        """List the nodes that have a model, with room or without, admitted or not, and what each has."""
        return self._offers.get(model, {})

    def admitted(self, model: str) -> Mapping[str, OfferedModel]:
        """List those that jobs of the model may go to."""
        return {id_: offer for id_, offer in self.offers(model).items() if offer.is_admitted}

    def longest_context(self, model: str) -> int:
        """Tell the longest context that a model has anywhere, in tokens; 0: nobody has it, or is admitted for it."""
        if model not in self._longest and model in self._offers:
            self._longest[model] = max((offer.context_tokens for offer in self.admitted(model).values()), default=0)
        return self._longest.get(model, 0)

    def names(self) -> Iterable[str]:
        """List the models that somebody is admitted for."""
        return (model for model in self._offers if any(group.kin.is_admitted for group in self.groups(model)))


def _offers_the_same(one: Node, other: Node) -> bool:
    return (one.kind, one.price) == (other.kind, other.price) and (one.models is other.models or one.models == other.models)


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
        """List the offered models and the nodes that are admitted for each."""
        offered: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            for model in node.models:
                if model.is_admitted:
                    offered.setdefault(model.name, []).append(node)
        return offered

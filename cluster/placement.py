"""Choice of a node for a job: filter, score, choose. Pure; every refused node carries its reason."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from random import Random

from cluster.nodes import Node, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRequest:
    """What placement must know of a job. `tokens`: the most it can need, prompt and answer; 0 where nobody knows."""

    model: str
    tokens: int = 0
    capabilities: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The chosen node, or None, and why each other one was refused."""

    node: Node | None
    reasons: dict[str, str]


def refusal(request: PlacementRequest, node: Node) -> str | None:
    """Tell why a node cannot take a job; None: it can."""
    model = next((offered for offered in node.models if offered.name == request.model), None)
    if node.id in request.excluded:
        return "it failed this job before"
    if not node.is_healthy:
        return node.reason or "it is not healthy"
    if node.is_draining:
        return "it is draining"
    if model is None:
        return f"it does not have {request.model}"
    if missing := request.capabilities - set(model.capabilities):
        return f"its {request.model} cannot do {', '.join(sorted(missing))}"
    if request.tokens > model.context_tokens:
        return f"its context of {model.context_tokens} tokens is too short"
    if not node.free:
        return "it is busy"
    return None


def choose(request: PlacementRequest, snapshot: Snapshot, rng: Random, taken: Collection[str] = ()) -> Choice:
    """Choose a node: of two picked at random among the best, the one with more free slots (power of two choices).

    `taken` names a node once per slot that was given away since the snapshot.
    """
    given = Counter(taken)
    reasons: dict[str, str] = {}
    warm: list[tuple[float, Node]] = []
    cold: list[tuple[float, Node]] = []
    for node in snapshot.nodes.values():
        free = node.free - given[node.id]
        why = refusal(request, node) or ("it is busy" if free <= 0 else None)
        if why is not None:
            reasons[node.id] = why
            continue
        is_warm = any(model.is_loaded for model in node.models if model.name == request.model)
        (warm if is_warm else cold).append((free / node.slots, node))
    best = warm or cold
    if not best:
        return Choice(node=None, reasons=reasons)
    _, chosen = max(rng.sample(best, min(2, len(best))), key=lambda one: one[0])
    if warm:
        reasons |= {node.id: f"it would have to load {request.model} first" for _, node in cold}
    reasons |= {node.id: "another one was as good" for _, node in best if node is not chosen}
    return Choice(node=chosen, reasons=reasons)

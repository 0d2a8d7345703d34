"""Choice of a node for a job: filter, score, choose. Pure; why each other node was refused is told when somebody asks (`explain`).

A decision looks at a few nodes of the model's, not at all: power of two choices (Mitzenmacher 2001) among a sample; only when the sample
has no room is everyone looked at. So its cost hardly grows with the cluster.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from cluster.nodes import Node, NodeKind, OfferedModel, Snapshot

SAMPLE = 16  # nodes that are looked at before all are


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRequest:
    """What placement must know of a job. `tokens`: the most it can need, prompt and answer; 0 where nobody knows.

    `excluded` failed this job before; `closed` take no job of this consumer at all; `is_trusted_only`: on the operator's machines alone.
    """

    model: str
    tokens: int = 0
    digest: str | None = None
    capabilities: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    is_trusted_only: bool = False


def refusal(request: PlacementRequest, node: Node) -> str | None:
    """Tell why a node cannot take a job; None: it can."""
    offered = next((model for model in node.models if model.name == request.model), None)
    return _why_not(request, node, offered, 0)


def _why_not(request: PlacementRequest, node: Node, model: OfferedModel | None, given: int) -> str | None:
    if node.id in request.excluded:
        return "it failed this job before"
    if node.id in request.closed:
        return "it takes no jobs of this consumer"
    if request.is_trusted_only and node.kind is not NodeKind.TRUSTED:
        return "it is not one of the operator's own machines"
    if not node.is_healthy:
        return node.reason or "it is not healthy"
    if node.is_draining:
        return "it is draining"
    return _why_not_its_model(request, model) or ("it is busy" if node.free - given <= 0 else None)


def _why_not_its_model(request: PlacementRequest, model: OfferedModel | None) -> str | None:
    if model is None:
        return f"it does not have {request.model}"
    if request.digest is not None and model.digest != request.digest:
        return f"it has another {request.model}"
    if not model.fits:
        return f"its memory is too small for {request.model}"
    if missing := request.capabilities - set(model.capabilities):
        return f"its {request.model} cannot do {', '.join(sorted(missing))}"
    if request.tokens > model.context_tokens:
        return f"its context of {model.context_tokens} tokens is too short"
    return None


def choose(request: PlacementRequest, snapshot: Snapshot, rng: Random, taken: Collection[str] = ()) -> Node | None:
    """Choose a node: one that has the model loaded before others; of two that can take it, the one with the larger share of free slots.

    `taken` names a node once per slot that was given away since the snapshot.
    """
    given = Counter(taken)
    for is_loaded in (True, False):
        if chosen := _choose_among(request, snapshot, snapshot.index.offering(request.model, is_loaded=is_loaded), rng, given):
            return chosen
    return None


def _choose_among(request: PlacementRequest, snapshot: Snapshot, ids: Sequence[str], rng: Random, given: Counter[str]) -> Node | None:
    sample: Iterable[str] = ids if len(ids) <= SAMPLE else (ids[rng.randrange(len(ids))] for _ in range(SAMPLE))
    able = _able(request, snapshot, sample, given)
    if not able and len(ids) > SAMPLE:
        able = _able(request, snapshot, ids, given)
    if not able:
        return None
    picked = rng.sample(able, 2) if len(able) > 2 else able
    rng.shuffle(picked)  # so that ties rotate
    return max(picked, key=lambda node: (node.free - given[node.id]) / node.slots)


def _able(request: PlacementRequest, snapshot: Snapshot, ids: Iterable[str], given: Counter[str]) -> list[Node]:
    index, nodes = snapshot.index, snapshot.nodes
    return [nodes[id_] for id_ in dict.fromkeys(ids) if _why_not(request, nodes[id_], index.model(id_, request.model), given[id_]) is None]


def explain(
    request: PlacementRequest, snapshot: Snapshot, chosen: str | None = None, taken: Collection[str] = (), limit: int | None = None
) -> dict[str, str]:
    """Tell of every node but the chosen one why it was not taken, in one sentence each; of the first `limit`, where one is given."""
    given = Counter(taken)
    warm = snapshot.index.offering(request.model, is_loaded=True)
    reasons: dict[str, str] = {}
    for node in snapshot.nodes.values():
        if node.id == chosen:
            continue
        if limit is not None and len(reasons) >= limit:
            break
        why = _why_not(request, node, snapshot.index.model(node.id, request.model), given[node.id])
        if why is None:
            is_colder = chosen in warm and node.id not in warm
            why = f"it would have to load {request.model} first" if is_colder else "another one was as good"
        reasons[node.id] = why
    return reasons

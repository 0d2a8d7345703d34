"""Choice of a node for a job: filter, score, choose. Pure; why each other node was refused is told when somebody asks (`explain`).

What is asked of an offer is asked once per group of nodes that offer the same; then a few of the nodes with room are looked at, not all:
power of two choices (Mitzenmacher 2001) among the best of a sample. So a decision's cost hardly grows with the cluster, whether it is idle,
full, or whether no node suits. `docs/concepts/placement.md` tells it in plain words.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, islice
from random import Random

from cluster.breaker import OPEN_S
from cluster.nodes import Kin, Node, NodeKind, OfferedModel, Snapshot

SAMPLE = 16  # nodes that are looked at before all are
NEAR = 1.5  # a node whose job would take at most so many times the best one's is among the best
ANSWER_TOKENS = 256  # of an answer, at most, when nodes are compared: most end before their limit
UNKNOWN_S = 1.0  # a job's time where nobody knows any node's
FAILURE_COST = 0.5  # of a job's time, for each recent failure
FAR_COST = 0.2  # of a job's time, for standing in another zone
EXCLUDED_S = 5.0  # so long a job waits for another node than the one that failed it
PRICE_COST = 0.25  # of a job's time, for costing twice the cheapest


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRequest:
    """What placement must know of a job. `tokens`: the most it can need, prompt and answer; 0 where nobody knows.

    `excluded` failed this job before; `unfit` cannot take it, whenever they are asked; `closed` take no job of this consumer at all; `broken`
    failed too much of late; `is_trusted_only`: on the operator's machines alone; `provider`: on these nodes alone, None: on anybody's;
    `price_cap` in micro-credits per million tokens. Nodes in the job's `zone` are preferred, and those with fewer recent `failures`.
    """

    model: str
    tokens: int = 0
    digest: str | None = None
    capabilities: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    unfit: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    is_trusted_only: bool = False
    broken: frozenset[str] = frozenset()
    provider: frozenset[str] | None = None
    price_cap: int | None = None
    zone: str = ""
    failures: Mapping[str, int] = field(default_factory=dict)

    def pardoning(self, node: str) -> "PlacementRequest":
        """Forget what spoke against a node that was lost and is back."""
        if node not in self.broken and node not in self.excluded:
            return self
        return replace(self, broken=self.broken - {node}, excluded=self.excluded - {node})

    def after(self, waited_s: float) -> "PlacementRequest":
        """Forget what spoke against nodes when the job came, after so long a wait: they may be well by now, and a try is better than none."""
        excluded = self.excluded if waited_s <= EXCLUDED_S else frozenset()
        broken = self.broken if waited_s <= OPEN_S else frozenset()
        return self if (excluded, broken) == (self.excluded, self.broken) else replace(self, excluded=excluded, broken=broken)


Taken = Mapping[str, int] | Collection[str]  # slots given away since the snapshot: counted per node, or a node's id once per slot


# --- filters --------------------------------------------------------------------------------------------------------------------------


def refusal(request: PlacementRequest, node: Node, given: int = 0) -> str | None:
    """Tell why a node cannot take a job; None: it can. `given` of its slots were given away since."""
    offered = next((model for model in node.models if model.name == request.model), None)
    return _why_not(request, node, offered, given)


def _why_not(request: PlacementRequest, node: Node, model: OfferedModel | None, given: int) -> str | None:
    if reason := _why_not_this_one(request, node.id):
        return reason
    if request.is_trusted_only and node.kind is not NodeKind.TRUSTED:
        return "it is not one of the operator's own machines"
    if not node.is_healthy:
        return node.reason or "it is not healthy"
    if node.is_draining:
        return "it is draining"
    if model is None:
        return f"it does not have {request.model}"
    return _why_not_its_kin(request, Kin.of(node, model)) or ("it is busy" if node.free - given <= 0 else None)


def _why_not_this_one(request: PlacementRequest, id_: str) -> str | None:
    if request.provider is not None and id_ not in request.provider:
        return "another provider was asked for"
    if id_ in request.excluded:
        return "it failed this job before"
    if id_ in request.unfit:
        return "it cannot take this job"
    if id_ in request.closed:
        return "it takes no jobs of this consumer"
    return "it failed too often just now" if id_ in request.broken else None


def _why_not_its_kin(request: PlacementRequest, kin: Kin) -> str | None:
    if request.is_trusted_only and kin.kind is not NodeKind.TRUSTED:
        return "it is not one of the operator's own machines"
    if request.digest is not None and kin.digest != request.digest:
        return f"it has another {request.model}"
    if not kin.is_admitted:
        return f"it is not admitted for {request.model} yet"
    if not kin.fits:
        return f"its memory is too small for {request.model}"
    if missing := request.capabilities.difference(kin.capabilities):
        return f"its {request.model} cannot do {', '.join(sorted(missing))}"
    if request.tokens > kin.context_tokens:
        return f"its context of {kin.context_tokens} tokens is too short"
    if request.price_cap is not None and kin.price is not None and kin.price > request.price_cap:
        return "it costs more than was allowed"
    return None


# --- choice ---------------------------------------------------------------------------------------------------------------------------


def choose(request: PlacementRequest, snapshot: Snapshot, rng: Random, taken: Taken = ()) -> Node | None:
    """Choose a node: one that has the model loaded before others; of two of the best, the one where the job is expected to end sooner."""
    given = taken if isinstance(taken, Mapping) else Counter(taken)
    groups = [group for group in snapshot.index.groups(request.model) if group.with_room and _why_not_its_kin(request, group.kin) is None]
    for is_loaded in (True, False):
        pools = [group.with_room for group in groups if group.kin.is_loaded is is_loaded]
        if able := _able(request, snapshot, pools, rng, given):
            return _one_of(request, snapshot, able, rng, given)
    return None


def _able(
    request: PlacementRequest, snapshot: Snapshot, pools: Sequence[Sequence[str]], rng: Random, given: Mapping[str, int]
) -> list[Node]:
    """Find up to `SAMPLE` nodes that can take the job: in a sample first, among all if there is none in it."""
    count = sum(map(len, pools))
    if count <= SAMPLE:
        return list(_open_to(request, snapshot, chain.from_iterable(pools), given))
    sample = dict.fromkeys(_drawn(pools, count, rng))
    if able := list(_open_to(request, snapshot, sample, given)):
        return able
    everybody = [id_ for pool in pools for id_ in pool]
    start = int(rng.random() * count)
    return list(islice(_open_to(request, snapshot, chain(islice(everybody, start, None), islice(everybody, start)), given), SAMPLE))


def _drawn(pools: Sequence[Sequence[str]], count: int, rng: Random) -> Iterator[str]:
    """Draw ids at random, each node being as likely as any other."""
    ends = list(accumulate(map(len, pools)))
    for _ in range(SAMPLE):
        at = int(rng.random() * count)
        pool = bisect_right(ends, at)
        yield pools[pool][at - ends[pool]]  # counted from the pool's end


def _open_to(request: PlacementRequest, snapshot: Snapshot, ids: Iterable[str], given: Mapping[str, int]) -> Iterator[Node]:
    nodes = snapshot.nodes
    only, closed, broken = request.provider, request.closed, request.broken
    excluded = request.excluded | request.unfit if request.unfit else request.excluded
    for id_ in ids:
        if id_ in excluded or id_ in closed or id_ in broken or (only is not None and id_ not in only):
            continue
        node = nodes[id_]
        if node.slots - node.running > given.get(id_, 0):
            yield node


def _one_of(request: PlacementRequest, snapshot: Snapshot, able: list[Node], rng: Random, given: Mapping[str, int]) -> Node:
    if len(able) == 1:
        return able[0]
    expected = expected_s(request, snapshot, able, given)
    limit = NEAR * min(expected)
    near = [at for at, seconds in enumerate(expected) if seconds <= limit]
    first = near.pop(int(rng.random() * len(near)))  # drawn at random, so that ties rotate
    if not near:
        return able[first]
    second = near[int(rng.random() * len(near))]
    return able[first] if expected[first] <= expected[second] else able[second]


# --- score ----------------------------------------------------------------------------------------------------------------------------


def expected_s(request: PlacementRequest, snapshot: Snapshot, nodes: Sequence[Node], given: Mapping[str, int]) -> list[float]:
    """Estimate per node when the job would end there, in seconds; made longer by what speaks against the node.

    A node whose speed nobody knows yet counts as the fastest of those compared: so it gets jobs, and its speed becomes known.
    """
    offers = snapshot.index.offers(request.model)
    alone = [_alone_s(request, offers[node.id]) for node in nodes]
    fastest = min((seconds for seconds in alone if seconds is not None), default=UNKNOWN_S)
    cheapest = min((node.price for node in nodes if node.price), default=None)
    return [
        (fastest if seconds is None else seconds) * _burden(request, node, given.get(node.id, 0), cheapest)
        for node, seconds in zip(nodes, alone, strict=True)
    ]


def _alone_s(request: PlacementRequest, model: OfferedModel) -> float | None:
    """Estimate how long a job takes by what the node's earlier ones showed."""
    if not model.tokens_per_s:
        return None
    tokens = min(request.tokens, ANSWER_TOKENS) or ANSWER_TOKENS
    return (model.first_token_s or 0.0) + tokens / model.tokens_per_s


def _burden(request: PlacementRequest, node: Node, given: int, cheapest: int | None) -> float:
    """Weigh what else counts: slots in use, recent failures, another zone, the price; 1 where nothing does."""
    burden = 1 + (node.running + given) / max(1, node.slots)
    if request.failures:
        burden *= 1 + FAILURE_COST * request.failures.get(node.id, 0)
    if request.zone and node.zone != request.zone:
        burden *= 1 + FAR_COST
    if cheapest and node.price:
        burden *= 1 + PRICE_COST * (node.price / cheapest - 1)
    return burden


# --- reasons --------------------------------------------------------------------------------------------------------------------------


def explain(
    request: PlacementRequest, snapshot: Snapshot, chosen: str | None = None, taken: Taken = (), limit: int | None = None
) -> dict[str, str]:
    """Tell of every node but the chosen one why it was not taken, in one sentence each; of the first `limit`, where one is given."""
    given = taken if isinstance(taken, Mapping) else Counter(taken)
    offers = snapshot.index.offers(request.model)
    others = (node for node in snapshot.nodes.values() if node.id != chosen)
    return {
        node.id: _why_not(request, node, offers.get(node.id), given.get(node.id, 0)) or _why_another(request, snapshot, node, chosen, given)
        for node in islice(others, limit)
    }


def _why_another(request: PlacementRequest, snapshot: Snapshot, node: Node, chosen: str | None, given: Mapping[str, int]) -> str:
    """Tell why a node that could have taken the job did not get it."""
    offers = snapshot.index.offers(request.model)
    if chosen is None or chosen not in offers or chosen not in snapshot.nodes:
        return "another one was as good"
    if offers[chosen].is_loaded and not offers[node.id].is_loaded:
        return f"it would have to load {request.model} first"
    theirs, its = expected_s(request, snapshot, [snapshot.nodes[chosen], node], given)
    return "another one was likely to be done sooner" if theirs < its else "another one was as good"

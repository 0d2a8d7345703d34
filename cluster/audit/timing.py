"""Which answers came faster than a card can write them, by what other nodes with the same card and model were seen to do. Pure.

A smaller model in the place of the one that is offered writes faster. A job has two figures, so that a line that stalls and then brings all at
once wrongs nobody: a node is judged by its *pace*, from the offer to the last token, which a stall makes lower; the limit is made of others'
speed of *writing*, from the first token to the last, which a burst makes higher. Nodes on probation are judged, and make no limit for others.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass

from cluster.speed import quantile

LEAST_TOKENS = 32  # of an answer that tells a speed
LEAST_PEERS, LEAST_JOBS = 3, 20  # so many others with so many jobs each make a limit
SHARE, MARGIN = 0.99, 1.5
KEPT_JOBS = 100  # per node, card and model
MAX_PEERS = 32  # per card and model; the ones that were not seen for longest go first, as pairs of card and model do
MAX_PAIRS = 2_000


@dataclass(frozen=True, slots=True)
class Timed:
    """How long an answer took: `whole_s` from the offer to the last token, `writing_s` from the first token to the last."""

    tokens: int
    whole_s: float
    writing_s: float


class Timing:
    """What nodes were seen to do, by card and model."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], OrderedDict[str, deque[float]]] = OrderedDict()

    def limit(self, node: str, card: str, model: str) -> float | None:
        """Tell how many tokens a second are the most that a node can write, by what others did; None: too few did."""
        others = [
            list(speeds) for other, speeds in self._seen.get((card, model), {}).items() if other != node and len(speeds) >= LEAST_JOBS
        ]
        most = quantile(sorted(speed for speeds in others for speed in speeds), SHARE) if len(others) >= LEAST_PEERS else None
        return None if most is None else most * MARGIN

    def judge(self, node: str, card: str, model: str, timed: Timed, *, is_proven: bool) -> float | None:
        """Tell the limit, in tokens a second, that a job is beyond; None: it is not, or nobody can say. Takes the job of a proven node in."""
        if not (card and model) or timed.tokens < LEAST_TOKENS or timed.whole_s <= 0:
            return None
        limit = self.limit(node, card, model)
        if limit is not None and timed.tokens / timed.whole_s > limit:
            return limit
        if is_proven and timed.writing_s > 0:
            self._take(node, (card, model), (timed.tokens - 1) / timed.writing_s)
        return None

    def _take(self, node: str, pair: tuple[str, str], speed: float) -> None:
        peers = self._seen.setdefault(pair, OrderedDict())
        peers.setdefault(node, deque(maxlen=KEPT_JOBS)).append(speed)
        peers.move_to_end(node)
        self._seen.move_to_end(pair)
        while len(peers) > MAX_PEERS:
            peers.popitem(last=False)
        while len(self._seen) > MAX_PAIRS:
            self._seen.popitem(last=False)

"""Answers too short for a window, put together per node and model until they fill one. Pure."""

from collections import OrderedDict
from collections.abc import Sequence

from cluster.audit.rules import WINDOW, Judgment, Measure, Rule, judge, mildest

MAX_POOLS = 10_000  # the ones that were not used for longest go first
Key = tuple[str, str]  # node, model
Measured = Sequence[Sequence[Measure]]  # per order of cutting, one of each token


class Pools:
    """What was measured and not judged yet."""

    def __init__(self, most: int = MAX_POOLS) -> None:
        self._most = most
        self._waiting: OrderedDict[tuple[Key, Rule], list[list[Measure]]] = OrderedDict()

    def judge(self, key: Key, rule: Rule, measured: Measured) -> Judgment | int:
        """Judge an answer, or a short one with those before it; an int: so many tokens wait for more of them."""
        if len(measured[0]) >= WINDOW[rule]:
            return _judged(rule, measured)
        waiting = self._waiting.pop((key, rule), None)
        if waiting is None or len(waiting) != len(measured):  # the node's runtime is another one now
            waiting = [[] for _ in measured]
        for kept, more in zip(waiting, measured, strict=True):
            kept.extend(more)
        if len(waiting[0]) >= WINDOW[rule]:
            return _judged(rule, waiting)
        self._waiting[key, rule] = waiting
        while len(self._waiting) > self._most:
            self._waiting.popitem(last=False)
        return len(waiting[0])


def _judged(rule: Rule, measured: Measured) -> Judgment:
    return mildest([judge(rule, one) for one in measured])

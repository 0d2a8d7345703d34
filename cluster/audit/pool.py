"""Answers too short for a window, put together per node and model until they fill one. Pure."""

from collections import OrderedDict
from collections.abc import Sequence

from cluster.audit.rules import WINDOW, Judgment, Measure, Rule, judge, mildest

MAX_POOLS = 10_000  # the ones that were not used for longest go first
Key = tuple[str, str]  # node, model
Measured = Sequence[Sequence[Measure]]  # per reading of how an engine samples, one of each token


class Pools:
    """What was measured and not judged yet."""

    def __init__(self, most: int = MAX_POOLS) -> None:
        self._most = most
        self._waiting: OrderedDict[tuple[Key, Rule, int], list[list[Measure]]] = OrderedDict()

    def judge(self, key: Key, rule: Rule, measured: Measured) -> Judgment | int:
        """Judge an answer, or a short one with those before it that had as many readings; an int: so many tokens wait for more of them."""
        if _tokens(measured) >= WINDOW[rule]:
            return _judged(rule, measured)
        place = (key, rule, len(measured))
        waiting = self._waiting.pop(place, None) or [[] for _ in measured]
        for kept, more in zip(waiting, measured, strict=True):
            kept.extend(more)
        if _tokens(waiting) >= WINDOW[rule]:
            return _judged(rule, waiting)
        self._waiting[place] = waiting
        while len(self._waiting) > self._most:
            self._waiting.popitem(last=False)
        return _tokens(waiting)


def _tokens(measured: Measured) -> int:
    return min(map(len, measured))


def _judged(rule: Rule, measured: Measured) -> Judgment:
    return mildest([judge(rule, one) for one in measured])

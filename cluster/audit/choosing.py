"""Which ended jobs are audited: a share by the node's standing, and one of each (node, model) a day at least. Pure but for its chance.

Of jobs that cost more than the node's jobs do, more are audited, of cheap ones fewer, so that the share of all stays what it is: who cheats
where it pays is looked at where it pays. The chance comes from the operating system's generator: a node that could guess the draw would be honest when it counts.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import date
from random import Random
from secrets import SystemRandom
from typing import Any

MAX_PAIRS = 20_000  # of node and model, and of nodes; the ones that were not seen for longest go first
LEAST_WEIGHT, MOST_WEIGHT = 0.5, 4.0
REMEMBERED_JOBS = 100  # about so many jobs of a node make its usual cost


@dataclass(slots=True)
class Usual:
    """What a node's jobs usually cost, and how much they usually weigh: running means, in which the newest job counts for a hundredth."""

    jobs: int = 0
    cost: float = 0.0
    weight: float = 1.0

    def weigh(self, cost: float) -> float:
        """Tell how much a job weighs, 1 in the mean over the node's jobs, and take it in."""
        weight = min(MOST_WEIGHT, max(LEAST_WEIGHT, cost / self.cost)) if self.cost > 0 else 1.0
        self.jobs += 1
        part = 1 / min(self.jobs, REMEMBERED_JOBS)
        self.cost += (cost - self.cost) * part
        self.weight += (weight - self.weight) * part
        return weight / self.weight


class Choosing:
    """Chooses after an answer is complete."""

    def __init__(self, chance: Random | None = None, most: int = MAX_PAIRS) -> None:
        self._chance = chance or SystemRandom()
        self._most = most
        self._audited: OrderedDict[tuple[str, str], date] = OrderedDict()
        self._usual: OrderedDict[str, Usual] = OrderedDict()

    def wants(self, node: str, model: str, percent: int, today: date, cost: int) -> bool:
        """Tell whether a job is audited; `percent`: how many of a hundred of the node's are; `cost` in micro-credits.

        All of them are, where all are to be: a cheap job of a node on probation weighs as much as any.
        """
        weight = self._weigh(node, cost)
        if percent <= 0:
            return False
        pair = (node, model)
        is_due = self._audited.get(pair) != today
        if not is_due and percent < 100 and self._chance.random() * 100 >= percent * weight:
            return False
        self._audited[pair] = today
        _renew(self._audited, pair, self._most)
        return True

    def _weigh(self, node: str, cost: int) -> float:
        usual = self._usual.setdefault(node, Usual())
        _renew(self._usual, node, self._most)
        return usual.weigh(cost)


def _renew(seen: OrderedDict[Any, Any], key: object, most: int) -> None:
    """Note that a key was seen, and forget those that were not for longest."""
    seen.move_to_end(key)
    while len(seen) > most:
        seen.popitem(last=False)

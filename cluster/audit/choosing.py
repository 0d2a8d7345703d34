"""Which ended jobs are audited: a share by the node's standing, and one of each (node, model) a day at least. Pure but for its chance.

The chance comes from the operating system's generator: a node that could guess the draw would be honest when it counts.
"""

from collections import OrderedDict
from datetime import date
from random import Random
from secrets import SystemRandom

MAX_PAIRS = 20_000  # of node and model; the ones that were not seen for longest go first


class Choosing:
    """Chooses after an answer is complete."""

    def __init__(self, chance: Random | None = None, most: int = MAX_PAIRS) -> None:
        self._chance = chance or SystemRandom()
        self._most = most
        self._audited: OrderedDict[tuple[str, str], date] = OrderedDict()

    def wants(self, node: str, model: str, percent: int, today: date) -> bool:
        """Tell whether a job is audited; `percent`: how many of a hundred of the node's are."""
        if percent <= 0:
            return False
        pair = (node, model)
        is_due = self._audited.get(pair) != today
        if not is_due and self._chance.random() * 100 >= percent:
            return False
        self._audited[pair] = today
        self._audited.move_to_end(pair)
        while len(self._audited) > self._most:
            self._audited.popitem(last=False)
        return True

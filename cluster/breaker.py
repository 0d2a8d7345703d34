"""A breaker per node: after a few failures in a row of time it gets no jobs for a while, then one to try. Pure: the clock is an argument.

Source: Nygard, Release It! (2nd edition), 5.2; the figures are those of the faults reference, 2.2. One replica's own view: what it saw
fail it does not try again; others find out by themselves, within as many failures.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

FAILURES = 5
WITHIN_S = 60.0
OPEN_S = 30.0
CANARY_S = 120.0  # the job to try is given up for lost after so long


@dataclass(slots=True)
class _Breaker:
    failures: deque[float] = field(default_factory=deque)
    opened_at: float | None = None
    canary_at: float | None = None
    has_returned: bool = False

    def is_open(self, now: float) -> bool:
        if self.opened_at is None:
            return False
        if now - self.opened_at < OPEN_S:
            return True
        return self.canary_at is not None and now - self.canary_at < CANARY_S


class Breakers:
    """Which nodes get no jobs now."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Breaker] = {}

    def open(self, now: float) -> frozenset[str]:
        """Name the nodes that are to get no job now."""
        return frozenset(id_ for id_, one in self._nodes.items() if one.is_open(now)) if self._nodes else frozenset()

    def recent_failures(self, now: float) -> Mapping[str, int]:
        """Count each node's failures of the last minute; nodes without any are left out."""
        if not self._nodes:
            return {}
        return {id_: count for id_, one in self._nodes.items() if (count := sum(now - at <= WITHIN_S for at in one.failures))}

    def placed(self, node: str, now: float) -> None:
        """A job goes to a node; if it is the one to try with, no other follows until its end is known."""
        known = self._nodes.get(node)
        if known is not None and known.opened_at is not None:
            known.canary_at = now

    def failed(self, node: str, now: float) -> None:
        """A job failed by the node's fault."""
        known = self._nodes.setdefault(node, _Breaker())
        known.failures.append(now)
        while known.failures and now - known.failures[0] > WITHIN_S:
            known.failures.popleft()
        if known.opened_at is not None or len(known.failures) >= FAILURES:
            known.opened_at, known.canary_at = now, None

    def returned(self, node: str) -> None:
        """A node that was lost is back, as after a restart: what failed before is forgotten. Once only, until a job ended well there."""
        known = self._nodes.get(node)
        if known is not None and known.opened_at is not None and not known.has_returned:
            self._nodes[node] = _Breaker(has_returned=True)

    def succeeded(self, node: str) -> bool:
        """A job ended well there: all is forgiven. Answer whether there was anything to forgive."""
        return self._nodes.pop(node, None) is not None

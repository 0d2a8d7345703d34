"""Requests that ended two runtimes: they would end the third as well. Pure: the clock is an argument."""

KEPT_S = 3600.0
MOST = 10_000
CRASHES = 2  # on different nodes


class PoisonList:
    """Hashes of requests, for an hour."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, digest: str, now: float) -> None:
        """Remember a request."""
        self._until.pop(digest, None)
        self._until[digest] = now + KEPT_S
        while len(self._until) > MOST or next(iter(self._until.values())) <= now:
            del self._until[next(iter(self._until))]

    def is_known(self, now: float) -> bool:
        """Tell whether there is any: only then is a digest worth its cost."""
        return bool(self._until) and next(reversed(self._until.values())) > now

    def has(self, digest: str, now: float) -> bool:
        """Tell whether a request is one of them."""
        return bool(self._until) and self._until.get(digest, 0.0) > now

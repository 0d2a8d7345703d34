"""How many live sockets and streams may be open at once, in this replica and per account. Who has not said yet who they are takes no seat."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ledger.client import RateLimited

STRANGERS = 100  # sockets that nobody has authenticated yet; each has seconds to do so
RETRY_S = 30


class Seats:
    """Counts who is here."""

    def __init__(self, limit: int, per_account: int) -> None:
        self._limit = limit
        self._per_account = per_account
        self._strangers = 0
        self._by_account: Counter[str] = Counter()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait to be known.

        Raises:
            RateLimited: Too many do.
        """
        if self._strangers >= STRANGERS:
            raise RateLimited("sockets that wait for their first frame", RETRY_S)
        self._strangers += 1
        try:
            yield
        finally:
            self._strangers -= 1

    @contextmanager
    def taken(self, account: str) -> Iterator[None]:
        """Take a seat.

        Raises:
            RateLimited: All are taken, or as many as one account may have.
        """
        if self._by_account[account] >= self._per_account:
            raise RateLimited(f"{self._per_account} live connections of one account", RETRY_S)
        if self._by_account.total() >= self._limit:
            raise RateLimited("live connections of this replica", RETRY_S)
        self._by_account[account] += 1
        try:
            yield
        finally:
            self._by_account[account] -= 1
            if not self._by_account[account]:
                del self._by_account[account]

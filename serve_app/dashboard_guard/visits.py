"""Who is in: an operator's browser that brought a pass, for as long as the sign-in is open that made it.

A visit is a random word in a cookie; here it is kept as its hash, in memory. The ledger is asked again every `LOOK_S`; while it does not
answer, who was let in stays for `UNSURE_S` (the dashboard is where one looks when something is down), and nobody new comes in.
"""

import asyncio
import hashlib
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ledger.client import GuardVisitor, LedgerUnavailable, NotAuthenticated, NotPermitted

LOOK_S = 5.0
UNSURE_S = 60.0
IDLE_S = 3600.0
LONGEST_S = 8 * 3600.0
MOST = 256
SPENT_KEPT_S = 120.0  # longer than any pass lives


class KnowsOperators(Protocol):
    """The ledger, as far as it is asked here (see `LedgerClient`)."""

    async def enter_guard(self, word: str) -> GuardVisitor:
        """Tell whose pass this is."""

    async def look_at_visit(self, session: uuid.UUID) -> GuardVisitor:
        """Tell whether a sign-in is still an operator's."""


class PassSpent(NotAuthenticated):
    """The pass was used before, or may have been: it is older than this process."""


@dataclass(slots=True)
class Visit:
    """One browser. Times are of the monotonic clock."""

    session: uuid.UUID
    username: str
    began_at: float
    used_at: float
    seen_at: float  # when the ledger last said yes
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_over(self, now: float) -> bool:
        """Tell whether it has lasted long enough."""
        return now - self.began_at > LONGEST_S or now - self.used_at > IDLE_S


class Visits:
    """The visits of one guard."""

    def __init__(
        self, ledger: KnowsOperators, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._started_at = wall_clock()
        self._visits: dict[bytes, Visit] = {}
        self._spent: dict[str, float] = {}

    async def enter(self, word: str) -> tuple[str, Visit]:
        """Spend a pass; answer the cookie's word and the visit.

        Raises:
            NotAuthenticated: It is no pass, too old, used before, or its sign-in has ended.
            NotPermitted: The sign-in is not an operator's.
            LedgerUnavailable: The ledger does not answer.
        """
        visitor = await self._ledger.enter_guard(word)
        now = self._clock()
        # Whole seconds: a pass of the second in which this process started may be from before it.
        if visitor.pass_id in self._spent or visitor.made_at <= int(self._started_at):
            raise PassSpent
        self._spent = {id_: at for id_, at in self._spent.items() if now - at < SPENT_KEPT_S} | {visitor.pass_id: now}
        self._forget(now)
        cookie = secrets.token_urlsafe(32)
        visit = self._visits[_hash(cookie)] = Visit(visitor.session, visitor.username, now, now, now)
        return cookie, visit

    async def find(self, cookie: str | None) -> Visit | None:
        """Find the visit of a cookie; None: there is none any more.

        Raises:
            LedgerUnavailable: The ledger has not answered for too long.
        """
        key = _hash(cookie or "")
        visit = self._visits.get(key)
        if visit is None:
            return None
        if visit.is_over(self._clock()) or not await self._is_still_in(visit):
            self._visits.pop(key, None)
            return None
        visit.used_at = self._clock()
        return visit

    async def _is_still_in(self, visit: Visit) -> bool:
        async with visit.looking:  # the many requests of one page ask once
            if self._clock() - visit.seen_at < LOOK_S:
                return True
            try:
                await self._ledger.look_at_visit(visit.session)
            except (NotAuthenticated, NotPermitted):
                return False
            except LedgerUnavailable:
                if self._clock() - visit.seen_at > UNSURE_S:
                    raise
                return True
            visit.seen_at = self._clock()
            return True

    def _forget(self, now: float) -> None:
        """Make room: those that are over go, then the one that was idle for longest."""
        self._visits = {key: visit for key, visit in self._visits.items() if not visit.is_over(now)}
        while len(self._visits) >= MOST:
            del self._visits[min(self._visits, key=lambda key: self._visits[key].used_at)]


def _hash(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode(errors="surrogatepass")).digest()

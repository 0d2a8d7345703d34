"""Who listens: whose jobs, to what, from where on; and what waits to be sent, bounded. A slow one hurts only itself."""

import asyncio
import uuid
from collections import deque
from collections.abc import Mapping, Sequence

from serve_app.live.changes import Change
from serve_app.live.messages import BALANCE_HINT, PROVIDER_HINT, Kind, Message, News

MAX_BATCHES = 64  # at four a second: who reads nothing for 16 s is too slow
MAX_LETTERS = 256 * 1024
MAX_KNOWN = 4096  # jobs; beyond, whole rows are told again


class ListenerClosed(Exception):
    """Nothing more is told, for this reason."""


class TooSlow(ListenerClosed):
    """More waits for this listener than is kept; what it missed is replayed when it comes back."""


class ReaderLost(ListenerClosed):
    """The reader of changes ended, by a defect of ours or with the replica."""


class Listener:
    """One socket's or stream's end of the fan-out. `heard`: the number up to which it knows everything."""

    def __init__(self, user: str, heard: int = 0) -> None:
        self.user = user
        self.heard = heard
        self.kinds = set(Kind)
        self._known: set[uuid.UUID] = set()
        self._ahead: dict[uuid.UUID, int] = {}  # jobs that a page showed as they stood after `heard`
        self._batches: deque[Sequence[Message]] = deque()
        self._letters = 0
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._reason: ListenerClosed | None = None
        self._surveyed: dict[Kind, Message] = {}
        self._held: list[tuple[int, Sequence[News], bool]] | None = []

    # --- what it knows ----------------------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Let what changes wait until a page, which is being read, was told: it may be ahead of the reader, and must not be told again."""
        self._held = []

    def follow_on(self, jobs: Sequence[Change]) -> None:
        """Go on after a page or a replay of these jobs."""
        for one in jobs:
            self._know(one)
        self._ahead = {one.id: one.number for one in jobs if one.number > self.heard}
        held, self._held = self._held or [], None
        for position, own, has_served in held:
            self.tell(position, own, has_served=has_served)

    def tell(self, position: int, own: Sequence[News], *, has_served: bool) -> None:
        """Take what changed of this user's jobs up to a position; `has_served`: a job on one of the user's nodes ended or was paid."""
        if self._held is not None:
            self._held.append((position, own, has_served))
            return
        news = [one for one in own if one.change.number > self.heard]
        said: list[Message] = []
        if Kind.JOBS in self.kinds:
            said = [self._told(one) for one in news if one.change.number > self._ahead.get(one.change.id, 0)]
        if Kind.BALANCE in self.kinds and any(one.change.is_settled for one in news):
            said.append(BALANCE_HINT)
        if Kind.PROVIDER_STATS in self.kinds and has_served:
            said.append(PROVIDER_HINT)
        self.heard = max(self.heard, position)
        if said:
            self.put(said)

    def _told(self, news: News) -> Message:
        is_known = news.change.id in self._known
        self._know(news.change)
        return news.told_to(who_knows_it=is_known)

    def _know(self, change: Change) -> None:
        if change.is_settled:
            self._known.discard(change.id)  # it was its last change
            return
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known.add(change.id)

    def survey(self, surveyed: Mapping[Kind, Message]) -> list[Message]:
        """Take how the cluster is; answer what is new of it."""
        news = [said for kind, said in surveyed.items() if kind in self.kinds and self._surveyed.get(kind) != said]
        self._surveyed |= surveyed
        return news

    # --- what waits -------------------------------------------------------------------------------------------------------------------

    def put(self, messages: Sequence[Message]) -> None:
        """Let something wait to be sent; who lets too much wait is closed."""
        if self._reason is not None:
            return
        letters = sum(len(one.text) for one in messages)
        if len(self._batches) >= MAX_BATCHES or self._letters + letters > MAX_LETTERS:
            self.close(TooSlow(f"more than {MAX_BATCHES} batches or {MAX_LETTERS} letters wait"))
            return
        self._batches.append(messages)
        self._letters += letters
        self._wake.set()

    async def take(self, limit_s: float) -> list[Message]:
        """Take all that waits; nothing when nothing came within `limit_s`.

        Raises:
            ListenerClosed: Nothing more is told.
        """
        try:
            async with asyncio.timeout(limit_s):
                await self._wake.wait()
        except TimeoutError:
            return []
        if self._reason is not None:
            raise self._reason
        taken = [one for batch in self._batches for one in batch]
        self._batches.clear()
        self._letters = 0
        self._wake.clear()
        return taken

    def close(self, reason: ListenerClosed) -> None:
        """Tell nothing more."""
        self._reason = self._reason or reason
        self._batches.clear()
        self._letters = 0
        self._wake.set()
        self._ended.set()

    async def until_closed(self) -> None:
        """Wait until nothing more is told: for who is busy with sending what was taken.

        Raises:
            ListenerClosed: Always.
        """
        await self._ended.wait()
        assert self._reason is not None
        raise self._reason

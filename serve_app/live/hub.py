"""One reader of changes per replica, and those who listen. It reads only while somebody does, and one statement is for all of them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from cluster.errors import ClusterError
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.live.changes import Change, Changes
from serve_app.live.listener import Listener, ReaderLost
from serve_app.live.messages import Kind, Message, News, beat, jobs_update, models_update, stats_update
from serve_app.live.seats import Seats
from serve_app.store.counts import Totals

log = structlog.get_logger()
READ_S = 0.25
AGAIN_S = 0.05  # when a lower number may still appear
SILENT_S = 1.0  # when the database did not answer
SURVEY_S = 2.0
JOIN_LIMIT_S = 10.0


class Hub:
    """Fans changes out. `position`: the number up to which everything was read."""

    def __init__(self, context: ServeContext) -> None:
        self._context = context
        self.seats = Seats(context.settings.live_sockets, context.settings.live_sockets_per_account)
        self._changes: Changes | None = None
        self._listeners: set[Listener] = set()
        self._position: int | None = None
        self._has_begun = asyncio.Event()
        self._between_readings = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._surveyed: dict[Kind, Message] = {}
        self._surveyed_at = -SURVEY_S
        self._survey_due = 0.0
        self._totals = Totals(0, 0)

    async def aclose(self) -> None:
        """End; who listens is told to come back."""
        self._let_all_go(ReaderLost("the replica ends"))
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # --- who listens ------------------------------------------------------------------------------------------------------------------

    async def join(self, user: str, since: int | None) -> Listener:
        """Let somebody listen; what waits first is what they missed since a number, or else the first page.

        Raises:
            DatabaseUnavailable: It does not answer.
            ReaderLost: The reader ended meanwhile.
        """
        listener = Listener(user)
        self._listeners.add(listener)  # before the reader could see that nobody listens
        try:
            await self._begun()
            async with self._between_readings:  # one that is on its way does not ask for this user's jobs
                listener.heard = self._position or 0
            await self._tell_jobs(listener, since)
        except BaseException:
            self.leave(listener)
            raise
        self._tell_survey(listener)
        return listener

    async def resume(self, listener: Listener, kinds: set[Kind]) -> None:
        """Let a listener hear of more; it begins with how things are now.

        Raises:
            DatabaseUnavailable: It does not answer.
            ReaderLost: There is no reader.
        """
        more = kinds - listener.kinds
        listener.kinds |= more
        if Kind.JOBS in more:
            await self._tell_jobs(listener, None)
        self._tell_survey(listener)

    async def _tell_jobs(self, listener: Listener, since: int | None) -> None:
        """Tell what was missed, or the first page; what changes meanwhile follows on it."""
        listener.hold()
        changes = self._reading()
        jobs = None if since is None else await changes.missed(listener.user, since, listener.heard)
        if since is None or jobs is None:
            jobs = await changes.page(listener.user)
            listener.put([jobs_update(jobs, listener.heard)])
        else:
            listener.heard = max(listener.heard, since)
            listener.put([*(News(one).told_to(who_knows_it=False) for one in jobs), beat(listener.heard)])
        listener.follow_on(jobs)

    async def _begun(self) -> None:
        """Let the reader run, and wait until it knows where it begins."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="live reader")
        try:
            async with asyncio.timeout(JOIN_LIMIT_S):
                await self._has_begun.wait()
        except TimeoutError as silent:
            raise DatabaseUnavailable(JOIN_LIMIT_S) from silent

    def _reading(self) -> Changes:
        if self._changes is None:
            raise ReaderLost("the reader of changes ended")
        return self._changes

    def leave(self, listener: Listener) -> None:
        """Let somebody listen no more."""
        self._listeners.discard(listener)

    # --- the reader -------------------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Read while somebody listens. A defect ends everybody's connection rather than leave it open and silent."""
        try:
            self._changes = Changes(self._context.settings.secret("serve_database_url").decode())
            while self._listeners:
                pause_s = await self._turn()
                await asyncio.sleep(pause_s)
        except Exception:
            log.exception("live_reader_failed", listeners=len(self._listeners))
            self._let_all_go(ReaderLost("the reader of changes failed"))
        finally:
            changes, self._changes, self._position, self._task = self._changes, None, None, None
            self._has_begun.set()  # who waits for it must not wait any longer
            self._has_begun = asyncio.Event()
            if changes:
                await changes.aclose()

    async def _turn(self) -> float:
        """Read once, tell what is new; answer how long to pause."""
        began = time.monotonic()
        try:
            async with self._between_readings:
                is_whole = await self._read()
            if is_due := began >= self._survey_due:
                self._totals = await self._context.counts.totals()
        except DatabaseUnavailable as silent:
            log.info("live_reader_waits", reason=str(silent))
            return SILENT_S
        if is_due:
            self._survey_due = began + SURVEY_S
            for listener in self._listeners:
                self._tell_survey(listener)
        return READ_S if is_whole else AGAIN_S

    async def _read(self) -> bool:
        """Read what is new, and tell it; False: something is new that cannot be told yet."""
        assert self._changes is not None
        if self._position is None:
            self._totals = await self._context.counts.totals()
            self._position = await self._changes.begin()
            if self._position is not None:
                self._has_begun.set()
            return self._position is not None
        users = {one.user for one in self._listeners}
        nodes = {id_: fact.owner for id_, fact in self._context.feed.nodes.items() if fact.owner in users}
        found = await self._changes.read(self._position, users, nodes)
        if found is None:
            return False
        self._tell(found[0], found[1], nodes)
        return True

    def _tell(self, position: int, changes: list[Change], owners: dict[str, str]) -> None:
        """Give everybody what is theirs."""
        self._position = position
        by_user: dict[str, list[News]] = {}
        served: set[str] = set()
        for one in changes:
            by_user.setdefault(one.user, []).append(News(one))
            if one.has_ended and (owner := owners.get(one.node or "")):
                served.add(owner)
        for listener in self._listeners:
            listener.tell(position, by_user.get(listener.user, ()), has_served=listener.user in served)

    def _let_all_go(self, reason: ReaderLost) -> None:
        for listener in self._listeners:
            listener.close(reason)
        self._listeners.clear()

    # --- the cluster ------------------------------------------------------------------------------------------------------------------

    def _tell_survey(self, listener: Listener) -> None:
        """Tell how the cluster is, where that is new to a listener; one that cannot be seen stays what it was."""
        now = time.monotonic()
        if now - self._surveyed_at >= SURVEY_S:
            self._surveyed_at = now
            self._surveyed = self._surveyed_now() or self._surveyed
        if news := listener.survey(self._surveyed):
            listener.put(news)

    def _surveyed_now(self) -> dict[Kind, Message]:
        """Write how the cluster is. What nodes say of themselves may be anything: it must not end the reader."""
        try:
            snapshot, catalog = self._context.view.snapshot, self._context.feed.catalog
            return {Kind.STATS: stats_update(snapshot, catalog, self._totals), Kind.MODELS: models_update(snapshot, catalog)}
        except ClusterError:
            return {}
        except Exception:
            log.exception("live_survey_failed")
            return {}


@asynccontextmanager
async def opened(context: ServeContext) -> AsyncIterator[Hub]:
    """Make a replica's hub, and end it."""
    hub = Hub(context)
    try:
        yield hub
    finally:
        await hub.aclose()

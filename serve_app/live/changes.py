"""Reads what changed of jobs, in the order of the numbers, each change once (migration 0006).

Numbers become visible out of order: a transaction that drew a lower one may commit later. So a number is read only when nothing below it can
still appear. A reader marks: it sees the last number drawn, *then* takes a transaction id of its own. Whoever drew up to there had an id
before it drew, so a lower one than the mark's; when the oldest transaction in flight is not older than the mark, all of them have ended, and
what they wrote is visible in the same snapshot. Usually that is at once, or 50 ms later; a transaction that is open for long, anywhere in the
database server, delays it, but not beyond `HOLD_LIMIT_S`, which is longer than any statement of ours may last.
"""

import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from serve_app.db import Line
from serve_app.store.records import JobState

log = structlog.get_logger()
HOLD_LIMIT_S = 8.0  # statements of ours end after 5 s (serve_app/db.py)
READ_ROWS = 1000
PAGE_JOBS = 25
REPLAY_JOBS = 200  # a client that missed more gets a fresh first page
REPLAY_NUMBERS = 20_000  # or one whose number is farther back: so many numbers are looked through

_COLUMNS = (
    "j.id, j.user_id, j.state, j.model, j.cost, j.created_at, j.ended_at, j.node, j.settled_at IS NOT NULL, coalesce(j.change, 0), j.prompt"
)
_ROWS = f"SELECT {_COLUMNS} FROM serve_app.job j"  # noqa: S608 - constants
# An id is taken only when there is something new: a reader of an idle platform writes nothing.
MARK = "SELECT last_value, CASE WHEN last_value > %b THEN pg_current_xact_id()::text::bigint END FROM serve_app.change"
READ = f"""
SELECT p.is_certain, c.* FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= %b::bigint AS is_certain) p
  LEFT JOIN LATERAL ({_ROWS} WHERE p.is_certain AND j.change > %b AND j.change <= %b AND (j.user_id = ANY (%b::text[]) OR j.node = ANY (%b::text[]))
                     ORDER BY j.change LIMIT %b) c ON true"""  # noqa: S608
PAGE = f"{_ROWS} WHERE j.user_id = %b ORDER BY j.created_at DESC, j.id DESC LIMIT %b"
REPLAY = f"{_ROWS} WHERE j.change > %b AND j.change <= %b AND j.user_id = %b ORDER BY j.change LIMIT %b"
LAST = "SELECT last_value FROM serve_app.change"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A job as it stood at a number. `cost` in micro-credits; `node`: where it ran last."""

    number: int
    id: uuid.UUID
    user: str
    state: JobState
    model: str
    cost: int | None
    created_at: datetime
    ended_at: datetime | None
    node: str | None
    is_settled: bool
    prompt: str

    @property
    def has_ended(self) -> bool:
        """Whether the job is over."""
        return self.state not in {JobState.QUEUED, JobState.RUNNING}


@dataclass(frozen=True, slots=True)
class Mark:
    """The last number drawn, a transaction id that all who drew up to there are older than, and when it was marked, in monotonic seconds."""

    number: int
    transaction: int
    at: float


class Changes:
    """Reads on from a position. One reader per replica; pages and replays have a connection of their own."""

    def __init__(self, url: str) -> None:
        self._line = Line(url, name="gfe_serve_live")
        self._pages = Line(url, name="gfe_serve_live_pages")
        self._mark: Mark | None = None

    async def aclose(self) -> None:
        """Close the connections; they open again when they are needed."""
        self._mark = None
        await self._line.drop()
        await self._pages.drop()

    async def begin(self) -> int | None:
        """Find where to begin: a number below which nothing can appear any more. None: not yet, ask again.

        Raises:
            DatabaseUnavailable: No answer.
        """
        found = await self.read(-1, (), ())
        return found[0] if found else None

    async def read(self, position: int, users: Collection[str], nodes: Collection[str]) -> tuple[int, list[Change]] | None:
        """Read what changed after a position, of these users and on these nodes; answer the new position as well.

        None: something is new, but a lower number may still appear; ask again soon.

        Raises:
            DatabaseUnavailable: No answer; ask again from the same position.
        """
        mark = self._mark or await self._marked(position)
        if mark is None:
            return position, []
        self._mark = mark
        is_overdue = time.monotonic() - mark.at > HOLD_LIMIT_S
        older = 0 if is_overdue else mark.transaction
        rows = await self._line.query(READ, (older, position, mark.number, list(users), list(nodes), READ_ROWS))
        if not rows[0][0]:
            return None
        if is_overdue:
            log.info("live_did_not_wait_longer", number=mark.number, limit_s=HOLD_LIMIT_S)
        changes = [_change(row[1:]) for row in rows if row[1] is not None]
        if len(changes) == READ_ROWS:
            return changes[-1].number, changes  # the mark stands: the rest is as certain
        self._mark = None
        return mark.number, changes

    async def _marked(self, position: int) -> Mark | None:
        rows = await self._line.query(MARK, (position,))
        number, transaction = rows[0]
        return None if transaction is None else Mark(number, transaction, time.monotonic())

    async def page(self, user: str) -> list[Change]:
        """Read a user's newest jobs, the newest first.

        Raises:
            DatabaseUnavailable: No answer.
        """
        return _changes(await self._pages.query(PAGE, (user, PAGE_JOBS)))

    async def missed(self, user: str, since: int, position: int) -> list[Change] | None:
        """Read what a user missed between two numbers, in order: each job as it stands. None: too much, or the number is not one of ours.

        Raises:
            DatabaseUnavailable: No answer.
        """
        if since > position:  # another replica may be a little ahead of this one
            return [] if since <= (await self._pages.query(LAST))[0][0] else None
        if position - since > REPLAY_NUMBERS:
            return None
        rows = await self._pages.query(REPLAY, (since, position, user, REPLAY_JOBS + 1))
        return None if len(rows) > REPLAY_JOBS else _changes(rows)


def _changes(rows: Sequence[Sequence[Any]]) -> list[Change]:
    return [_change(row) for row in rows]


def _change(row: Sequence[Any]) -> Change:
    return Change(
        id=row[0], user=row[1], state=JobState(row[2]), model=row[3], cost=row[4], created_at=row[5], ended_at=row[6], node=row[7],
        is_settled=row[8], number=row[9], prompt=row[10] or "",
    )  # fmt: skip

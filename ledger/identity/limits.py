"""Limits on who asks how often, counted in the database so that several processes do not allow several times as much.

Two kinds: a *bucket* (so many per minute, refilled steadily), and a *throttle* (failures in a row; after `FREE_FAILURES` each doubles the
wait). Their tables are unlogged: a crash forgets them, which harms nobody.
"""

import math
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from ledger.db import Connection, Database
from ledger.errors import RateLimited

FREE_FAILURES = 5
LONGEST_WAIT_S = 900
FORGOTTEN_AFTER_S = 3600


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """Whose bucket, how many it holds, in how many seconds it fills."""

    subject: str
    capacity: int
    refill_s: float = 60.0

    @property
    def wait_s(self) -> int:
        """How long one more takes to come."""
        return max(1, math.ceil(self.refill_s / self.capacity))

    def reset_s(self, left: int) -> int:
        """How long it takes until it is full again."""
        return math.ceil((self.capacity - left) * self.refill_s / self.capacity)


TAKE = """
WITH asked AS (SELECT * FROM unnest(%(subjects)s::text[], %(capacities)s::float8[], %(rates)s::float8[], %(counts)s::int[]) AS u(subject, capacity, rate, count))
INSERT INTO ledger.bucket AS b (subject, tokens, at, granted)
SELECT subject, capacity - least(capacity, count), clock_timestamp(), least(capacity, count)::int FROM asked ORDER BY subject
ON CONFLICT (subject) DO UPDATE SET (tokens, at, granted) = (
  SELECT s.now_has - g.granted, greatest(b.at, excluded.at), g.granted FROM asked,
    LATERAL (SELECT least(asked.capacity, b.tokens + greatest(extract(epoch FROM excluded.at - b.at)::float8, 0) * asked.rate) AS now_has) s,
    LATERAL (SELECT least(floor(s.now_has), asked.count)::int AS granted) g
   WHERE asked.subject = b.subject)
RETURNING subject, granted, tokens
"""


@dataclass(slots=True)
class Room:
    """What is left of the tightest limit that a request met; kept per request, for its answer's headers."""

    bucket: Bucket | None = None
    left: int = 0

    def note(self, bucket: Bucket, left: int) -> None:
        """Keep the tightest."""
        if self.bucket is None or left < self.left:
            self.bucket, self.left = bucket, left

    def headers(self) -> dict[str, str]:
        """Write `RateLimit-*` (draft-ietf-httpapi-ratelimit-headers-03); none when no limit was met."""
        if self.bucket is None:
            return {}
        reset_s = self.bucket.reset_s(self.left)
        return {"RateLimit-Limit": str(self.bucket.capacity), "RateLimit-Remaining": str(self.left), "RateLimit-Reset": str(reset_s)}


ROOM: ContextVar[Room | None] = ContextVar("room", default=None)


@dataclass(frozen=True, slots=True)
class Granted:
    """How many were taken from a bucket, and how many are left."""

    count: int
    left: int


async def take(connection: Connection, wanted: Mapping[Bucket, int]) -> dict[str, Granted]:
    """Take from each bucket as many as are wanted or there; answer by subject."""
    if not wanted:
        return {}
    cursor = await connection.execute(
        TAKE,
        {
            "subjects": [one.subject for one in wanted], "capacities": [float(one.capacity) for one in wanted],
            "rates": [one.capacity / one.refill_s for one in wanted], "counts": list(wanted.values()),
        },
    )  # fmt: skip
    return {subject: Granted(granted, int(left)) for subject, granted, left in await cursor.fetchall()}


class Limits:
    """The limits of the public API."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, wanted: Mapping[Bucket, int]) -> dict[str, Granted]:
        """Take from each bucket as many as are wanted or there; answer by subject.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """

        async def work(connection: Connection) -> dict[str, Granted]:
            return await take(connection, wanted)

        return await self._database.run(work) if wanted else {}

    async def require_room(self, name: str, *buckets: Bucket) -> None:
        """Take one from each bucket.

        Raises:
            RateLimited: One is empty.
            DatabaseUnavailable: The database does not answer.
        """
        granted = await self.take(dict.fromkeys(buckets, 1))
        if room := ROOM.get():
            for bucket in buckets:
                room.note(bucket, granted[bucket.subject].left)
        empty = [bucket for bucket in buckets if not granted[bucket.subject].count]
        if empty:
            raise RateLimited(name, max(bucket.wait_s for bucket in empty))

    async def require_patience(self, *subjects: str) -> None:
        """Refuse while one of the subjects has to wait after its failures.

        Raises:
            RateLimited: It is too early.
            DatabaseUnavailable: The database does not answer.
        """

        async def work(connection: Connection) -> float:
            cursor = await connection.execute(
                "SELECT extract(epoch FROM max(blocked_until) - clock_timestamp()) FROM ledger.throttle WHERE subject = ANY (%s)",
                [list(subjects)],
            )
            row = await cursor.fetchone()
            return float(row[0] or 0) if row else 0.0

        wait_s = await self._database.run(work)
        if wait_s > 0:
            raise RateLimited("failed attempts", math.ceil(wait_s))

    async def note_failure(self, *subjects: str) -> None:
        """Count a failure; from the sixth in a row on each doubles the wait."""

        async def work(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO ledger.throttle AS t (subject, failures, at, blocked_until) SELECT u, 1, clock_timestamp(), clock_timestamp() "
                "FROM unnest(%(subjects)s::text[]) AS u ORDER BY u ON CONFLICT (subject) DO UPDATE SET "
                "failures = CASE WHEN t.at < excluded.at - make_interval(secs => %(forgotten)s) THEN 1 ELSE t.failures + 1 END, at = excluded.at, "
                "blocked_until = excluded.at + CASE WHEN t.failures < %(free)s OR t.at < excluded.at - make_interval(secs => %(forgotten)s) "
                "THEN interval '0' ELSE make_interval(secs => least(%(longest)s, 2.0 ^ least(t.failures - %(free)s, 20))) END",
                {"subjects": list(subjects), "free": FREE_FAILURES, "longest": LONGEST_WAIT_S, "forgotten": FORGOTTEN_AFTER_S},
            )

        await self._database.run(work)

    async def forgive(self, *subjects: str) -> None:
        """Forget failures: the right password was given."""

        async def work(connection: Connection) -> None:
            await connection.execute("DELETE FROM ledger.throttle WHERE subject = ANY (%s)", [list(subjects)])

        await self._database.run(work)


async def take_turn(connection: Connection, name: str, every_s: float) -> bool:
    """Tell whether it is this caller's turn to do what happens once in so many seconds over all processes."""
    granted = await take(connection, {Bucket(f"turn:{name}", 1, every_s): 1})
    return granted[f"turn:{name}"].count == 1


async def clean_up(connection: Connection) -> None:
    """Forget buckets that are full again and throttles that are over."""
    await connection.execute("DELETE FROM ledger.bucket WHERE at < clock_timestamp() - interval '2 days'")
    await connection.execute("DELETE FROM ledger.throttle WHERE at < clock_timestamp() - interval '1 day'")

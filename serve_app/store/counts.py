"""What is counted of jobs that ended, in the statement that ends them: exactly once, and read without looking at any job.

Beside them the attempts that broke on a node: rare, in a statement of their own, and one may be missing after a crash.
"""

import zlib
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from serve_app.db import DatabaseUnavailable, Line

SHARDS = 16
KNOWN_DAYS = 7
MOST_MODELS = 1000

# Part of the statement that ends jobs (`FINISH`): `done` are the jobs that ended by it. Rows are taken in one order by everybody.
COUNT_ENDED = """\
counted AS (INSERT INTO serve_app.tally AS t (model, shard, ended, completed, completed_at)
    SELECT model, %b::smallint, count(*), count(*) FILTER (WHERE state = 2), CASE WHEN bool_or(state = 2) THEN clock_timestamp() END
      FROM done GROUP BY model ORDER BY model
    ON CONFLICT (model, shard) DO UPDATE SET ended = t.ended + excluded.ended, completed = t.completed + excluded.completed,
      completed_at = coalesce(excluded.completed_at, t.completed_at)),
served AS (INSERT INTO serve_app.node_day AS d (node, day, model, shard, served, completed, failed, canceled, completion_tokens)
    SELECT node, (clock_timestamp() AT TIME ZONE 'UTC')::date AS day, model, %b::smallint, count(*) FILTER (WHERE starts_with(owed, 'capture')),
           count(*) FILTER (WHERE state = 2), count(*) FILTER (WHERE state = 3), count(*) FILTER (WHERE state = 4), coalesce(sum(completion_tokens), 0)
      FROM done WHERE node IS NOT NULL GROUP BY node, day, model ORDER BY node, day, model
    ON CONFLICT (node, day, model, shard) DO UPDATE SET served = d.served + excluded.served, completed = d.completed + excluded.completed,
      failed = d.failed + excluded.failed, canceled = d.canceled + excluded.canceled,
      completion_tokens = d.completion_tokens + excluded.completion_tokens)"""
TOTALS = """
SELECT coalesce(sum(ended), 0)::bigint + (SELECT count(*) FROM serve_app.job WHERE state < 2), coalesce(sum(completed), 0)::bigint
  FROM serve_app.tally"""
SERVED = """
SELECT model, sum(served)::bigint, sum(completed)::bigint, sum(failed)::bigint, sum(canceled)::bigint, sum(completion_tokens)::bigint
  FROM serve_app.node_day WHERE node = ANY (%b) AND day > (clock_timestamp() AT TIME ZONE 'UTC')::date - %b::int
 GROUP BY model ORDER BY 2 DESC, model LIMIT %b"""
SERVED_BY_NODE = """
SELECT node, sum(served)::bigint, sum(completed)::bigint, sum(canceled)::bigint, sum(broken)::bigint, sum(completion_tokens)::bigint
  FROM serve_app.node_day WHERE node = ANY (%b) AND day > (clock_timestamp() AT TIME ZONE 'UTC')::date - %b::int GROUP BY node"""
NOTE_BROKEN = """
INSERT INTO serve_app.node_day AS d (node, day, model, shard, served, completed, failed, canceled, completion_tokens, broken)
VALUES (%b, (clock_timestamp() AT TIME ZONE 'UTC')::date, %b, %b::smallint, 0, 0, 0, 0, 0, 1)
ON CONFLICT (node, day, model, shard) DO UPDATE SET broken = d.broken + 1"""
HAS_RUN = "SELECT 1 FROM serve_app.tally WHERE model = %b AND completed_at > clock_timestamp() - make_interval(days => %b) LIMIT 1"


def shard_of(driver: str) -> int:
    """Tell in which shard a driver counts."""
    return zlib.crc32(driver.encode()) % SHARDS


@dataclass(frozen=True, slots=True)
class Totals:
    """All jobs that were ever taken, and those that ended well."""

    jobs: int
    completed: int


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What nodes did with one model: jobs that are paid for, how jobs ended there, tokens written."""

    model: str
    served: int
    completed: int
    failed: int
    canceled: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class ServedNode:
    """What a node did: jobs that are paid for, attempts that ended well, were canceled by the consumer or broke, tokens written."""

    node: str
    served: int
    completed: int
    canceled: int
    broken: int
    completion_tokens: int


class Counts:
    """Reads what was counted, and counts attempts that broke."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def totals(self) -> Totals:
        """Tell how many jobs there were.

        Raises:
            DatabaseUnavailable: Ours does not answer.
        """
        return Totals(*(await self._line.query(TOTALS))[0])

    async def served(self, nodes: Collection[str], days: int) -> list[ServedModel]:
        """Tell per model what nodes did today and on the days before it, `days` in all; the most served first.

        Raises:
            DatabaseUnavailable: Ours does not answer.
        """
        rows = await self._line.query(SERVED, (sorted(nodes), days, MOST_MODELS)) if nodes else []
        return [ServedModel(*row) for row in rows]

    async def served_by_node(self, nodes: Collection[str], days: int) -> dict[str, ServedNode]:
        """Tell per node what it did today and on the days before it, `days` in all; one that did nothing is left out.

        Raises:
            DatabaseUnavailable: Ours does not answer.
        """
        rows = await self._line.query(SERVED_BY_NODE, (sorted(nodes), days)) if nodes else []
        return {row[0]: ServedNode(*row) for row in rows}

    async def note_broken(self, node: str, model: str, driver: str) -> None:
        """Count an attempt that broke on a node; a database that does not answer loses it."""
        with suppress(DatabaseUnavailable):
            await self._line.query(NOTE_BROKEN, (node, model, shard_of(driver)))

    async def has_run(self, model: str) -> bool:
        """Tell whether a job of a model ended well within `KNOWN_DAYS`.

        Raises:
            DatabaseUnavailable: Ours does not answer.
        """
        return bool(await self._line.query(HAS_RUN, (model, KNOWN_DAYS)))

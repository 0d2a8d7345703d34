"""Marks of jobs that are to be canceled: set by whichever replica is asked, seen by the one that drives the job."""

import uuid
from dataclasses import dataclass

from serve_app.db import Line

WANT = """
UPDATE serve_app.job SET cancel_at = coalesce(cancel_at, clock_timestamp()) WHERE id = %b AND state < 2 RETURNING attempt, node"""
WANTED = "SELECT id FROM serve_app.job WHERE driver = %b AND cancel_at IS NOT NULL AND state < 2"
IS_WANTED = "SELECT 1 FROM serve_app.job WHERE id = %b AND cancel_at IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a job was when it was marked: its attempt, and the node of it."""

    attempt: int
    node: str | None


class Cancels:
    """Sets and reads the marks."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def want(self, id_: uuid.UUID) -> Whereabouts | None:
        """Mark a job that has not ended; None: it has.

        Raises:
            DatabaseUnavailable: Whether it is marked is unknown; asking again is safe.
        """
        rows = await self._line.query(WANT, (id_,))
        return Whereabouts(*rows[0]) if rows else None

    async def wanted(self, driver: str) -> list[uuid.UUID]:
        """List the jobs of a driver that are to end.

        Raises:
            DatabaseUnavailable: Ours does not answer.
        """
        return [row[0] for row in await self._line.query(WANTED, (driver,))]

    async def is_wanted(self, id_: uuid.UUID) -> bool:
        """Tell whether a job is to end, or was.

        Raises:
            DatabaseUnavailable: Ours does not answer.
        """
        return bool(await self._line.query(IS_WANTED, (id_,)))

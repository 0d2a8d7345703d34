"""Pages of a person's jobs, newest first. A page begins where the last one ended, at a time and an id: what comes meanwhile moves nothing."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serve_app.db import Line
from serve_app.store.records import JobHead, JobState

COLUMNS = "id, state, prompt, model, cost, created_at, ended_at"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: its last job."""

    created_at: datetime
    id: uuid.UUID


def page_statement(user: str, limit: int, *, after: Place | None, state: JobState | None, model: str | None) -> tuple[str, tuple[Any, ...]]:
    """Write the statement of one page. Only what is asked for stands in it, and a state as a number: so PostgreSQL can choose its index."""
    conditions: list[str] = ["user_id = %b"]
    parameters: list[Any] = [user]
    if after is not None:
        conditions.append("(created_at, id) < (%b, %b)")
        parameters += [after.created_at, after.id]
    if state is not None:
        conditions.append(f"state = {int(state)}")
    if model is not None:
        conditions.append("model = %b")
        parameters.append(model)
    where = " AND ".join(conditions)
    statement = f"SELECT {COLUMNS} FROM serve_app.job WHERE {where} ORDER BY created_at DESC, id DESC LIMIT %b"  # noqa: S608 - no input is in it
    return statement, (*parameters, limit)


class JobPages:
    """Reads pages of jobs: rows alone, no texts."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def page(
        self, user: str, limit: int, *, after: Place | None = None, state: JobState | None = None, model: str | None = None
    ) -> list[JobHead]:
        """Read up to `limit` of a person's jobs, newest first, from where a page ended.

        Raises:
            DatabaseUnavailable: Ours does not answer.
        """
        rows = await self._line.query(*page_statement(user, limit, after=after, state=state, model=model))
        return [
            JobHead(
                id=row[0], state=JobState(row[1]), prompt=row[2] or "", model=row[3], cost=row[4], created_at=row[5], ended_at=row[6]
            )
            for row in rows
        ]  # fmt: skip

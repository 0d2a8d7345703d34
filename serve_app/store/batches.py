"""Batches and their lines. A batch is run by one replica at a time, under a lease; every write of a run names the runner, and finds no row when it is not his.

A line's end, its answer's line in the output or the error file and the batch's counts are one statement: none is there without the others.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.rows import TupleRow

from serve_app.db import Line
from serve_app.store.files import KEPT

LEASE_S = 15.0
MAX_UNDER_WAY = 20  # of one account
MAX_CLAIMED = 2  # of one account, of all replicas together: the others' batches get their turn
WINDOWS = {"24h": timedelta(hours=24)}
NEXT_LINES = 8
SWEPT_AT_ONCE = 20
ENDED = ("failed", "completed", "expired", "cancelled")

COLUMNS = (
    "id, user_id, endpoint, completion_window, metadata, input_file, output_file, error_file, state, times, errors, total, completed, failed, "
    "credential, created_at, expires_at, request_digest, "
    "(SELECT array_agg(f.id) FROM serve_app.file f WHERE f.id IN (batch.output_file, batch.error_file) AND f.is_ready)"
)
CREATE = f"""
WITH made AS (
  INSERT INTO serve_app.batch (id, user_id, endpoint, completion_window, metadata, input_file, output_file, error_file, credential, request_key,
                               request_digest, created_at, expires_at)
  SELECT %b, %b::text, %b, %b, %b, f.id, %b, %b, %b, %b, %b, %b, %b FROM serve_app.file f
   WHERE f.id = %b AND f.user_id = %b::text AND f.is_ready
     AND (SELECT count(*) FROM serve_app.batch o WHERE o.user_id = %b::text AND o.ended_at IS NULL) < {MAX_UNDER_WAY}
  ON CONFLICT DO NOTHING RETURNING *),
files AS (
  INSERT INTO serve_app.file (id, user_id, filename, purpose, bytes, created_at, expires_at)
  SELECT u.id, made.user_id, u.name, 'batch_output', 0, made.created_at, made.expires_at + %b::interval
    FROM made, unnest(ARRAY[made.output_file, made.error_file], ARRAY['output.jsonl', 'errors.jsonl']) AS u(id, name))
SELECT {COLUMNS} FROM made AS batch"""  # noqa: S608
CLAIM = f"""
UPDATE serve_app.batch SET runner = %b, lease_until = clock_timestamp() + make_interval(secs => {LEASE_S})
 WHERE id = (SELECT id FROM serve_app.batch b WHERE ended_at IS NULL AND (lease_until IS NULL OR lease_until < clock_timestamp()) AND id <> ALL (%b::uuid[])
             AND (SELECT count(*) FROM serve_app.batch o WHERE o.user_id = b.user_id AND o.ended_at IS NULL AND o.lease_until > clock_timestamp()) < {MAX_CLAIMED}
             ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING {COLUMNS}"""  # noqa: S608
RENEW = f"""
UPDATE serve_app.batch SET lease_until = clock_timestamp() + make_interval(secs => {LEASE_S})
 WHERE id = %b AND runner = %b AND ended_at IS NULL RETURNING state"""  # noqa: S608
MOVE = f"""
UPDATE serve_app.batch SET state = %b::text, times = times || jsonb_build_object(%b::text, floor(extract(epoch FROM %b::timestamptz))::bigint),
       errors = coalesce(%b, errors), total = coalesce(%b, total)
 WHERE id = %b AND runner = %b AND ended_at IS NULL AND state <> 'cancelling' RETURNING {COLUMNS}"""  # noqa: S608
CANCEL = f"""
UPDATE serve_app.batch SET state = 'cancelling', times = times || jsonb_build_object('cancelling', floor(extract(epoch FROM %b::timestamptz))::bigint)
 WHERE id = %b AND user_id = %b AND state IN ('validating', 'in_progress') RETURNING {COLUMNS}"""  # noqa: S608
ADD_LINES = """
INSERT INTO serve_app.batch_line (batch_id, number, custom_id) SELECT %b, * FROM unnest(%b::int[], %b::text[]) ON CONFLICT DO NOTHING"""
LINES = f"""
SELECT l.number, l.custom_id, l.job_id, f.content FROM serve_app.batch_line l JOIN serve_app.file_line f ON f.file_id = %b AND f.number = l.number
 WHERE l.batch_id = %b AND l.state < 2 AND l.number > %b AND (l.job_id IS NOT NULL OR NOT %b) ORDER BY l.number LIMIT {NEXT_LINES}"""  # noqa: S608
BEGUN = """
UPDATE serve_app.batch_line l SET state = CASE WHEN %b::uuid IS NULL THEN 0 ELSE 1 END, job_id = %b::uuid FROM serve_app.batch b
 WHERE l.batch_id = %b AND l.number = %b AND l.state < 2 AND b.id = l.batch_id AND b.runner = %b RETURNING l.number"""
END_LINES = """
WITH said AS (SELECT * FROM unnest(%b::int[], %b::boolean[], %b::bytea[]) AS u(number, is_good, content)),
mine AS (SELECT id, output_file, error_file FROM serve_app.batch WHERE id = %b AND runner = %b AND ended_at IS NULL FOR UPDATE),
done AS (UPDATE serve_app.batch_line l SET state = CASE WHEN said.is_good THEN 2 ELSE 3 END FROM said, mine
          WHERE l.batch_id = mine.id AND l.number = said.number AND l.state < 2 RETURNING l.number, said.is_good, said.content),
told AS (INSERT INTO serve_app.file_line (file_id, number, content)
         SELECT CASE WHEN done.is_good THEN mine.output_file ELSE mine.error_file END, done.number, done.content FROM done, mine)
UPDATE serve_app.batch b SET completed = b.completed + n.good, failed = b.failed + n.bad
  FROM mine, (SELECT count(*) FILTER (WHERE is_good) AS good, count(*) FILTER (WHERE NOT is_good) AS bad FROM done) AS n
 WHERE b.id = mine.id RETURNING b.id"""
# The batch ends, its files are ready (an empty one is none), its credential and its lines are gone: all at once.
FINISH = """
WITH mine AS (UPDATE serve_app.batch b SET state = %b::text, ended_at = %b, credential = NULL, lease_until = NULL, errors = coalesce(%b, b.errors),
                     times = b.times || jsonb_build_object(%b::text, floor(extract(epoch FROM %b::timestamptz))::bigint)
               WHERE b.id = %b AND b.runner = %b AND b.ended_at IS NULL RETURNING b.id, b.output_file, b.error_file),
sizes AS (SELECT f.id, (SELECT sum(octet_length(l.content)) FROM serve_app.file_line l WHERE l.file_id = f.id) AS bytes
            FROM serve_app.file f JOIN mine ON f.id IN (mine.output_file, mine.error_file)),
ready AS (UPDATE serve_app.file f SET is_ready = true, bytes = sizes.bytes, expires_at = %b FROM sizes WHERE f.id = sizes.id AND sizes.bytes IS NOT NULL),
empty AS (DELETE FROM serve_app.file f USING sizes WHERE f.id = sizes.id AND sizes.bytes IS NULL),
gone AS (DELETE FROM serve_app.batch_line l USING mine WHERE l.batch_id = mine.id)
SELECT id FROM mine"""
SWEEP = """
DELETE FROM serve_app.batch WHERE id IN (SELECT id FROM serve_app.batch WHERE ended_at <= %b LIMIT %b FOR UPDATE SKIP LOCKED) RETURNING id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as it is kept. `times`: when each state began, in seconds since 1970; `ready`: which of its files can be read."""

    id: uuid.UUID
    user: str
    endpoint: str
    window: str
    metadata: dict[str, str] | None
    input_file: uuid.UUID
    output_file: uuid.UUID
    error_file: uuid.UUID
    state: str
    times: dict[str, int]
    errors: list[dict[str, Any]]
    total: int
    completed: int
    failed: int
    credential: bytes | None
    created_at: datetime
    expires_at: datetime
    digest: str | None
    ready: frozenset[uuid.UUID]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """A batch as it is asked for; `request_key` and `digest` are of an Idempotency-Key."""

    id: uuid.UUID
    user: str
    endpoint: str
    window: str
    metadata: dict[str, str] | None
    input_file: uuid.UUID
    output_file: uuid.UUID
    error_file: uuid.UUID
    credential: bytes
    request_key: str | None
    digest: str | None


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A line that has not ended; `job` is the one that was begun for it."""

    number: int
    custom_id: str
    job: uuid.UUID | None
    content: bytes


@dataclass(frozen=True, slots=True)
class LineEnd:
    """What a line's end is written as: a line of the output file, or else of the error file."""

    number: int
    is_good: bool
    content: bytes


class BatchStore:
    """Reads and writes batches; one statement each, over one connection."""

    def __init__(self, url: str) -> None:
        self._line = Line(url, name="gfe_serve_batches")

    async def aclose(self) -> None:
        """Close the connection."""
        await self._line.drop()

    # --- their owner's ----------------------------------------------------------------------------------------------------------------

    async def create(self, new: NewBatch, now: datetime) -> Batch | None:
        """Make a batch; None: too many are under way, the file is gone, or the request's key was used before."""
        rows = await self._line.query(
            CREATE,
            (
                new.id, new.user, new.endpoint, new.window, None if new.metadata is None else json.dumps(new.metadata), new.output_file,
                new.error_file, new.credential, new.request_key, new.digest, now, now + WINDOWS[new.window], new.input_file, new.user, new.user, KEPT,
            ),
        )  # fmt: skip
        return _batch(rows[0]) if rows else None

    async def find(self, id_: uuid.UUID, user: str) -> Batch | None:
        """Look up one of somebody's batches."""
        rows = await self._line.query(f"SELECT {COLUMNS} FROM serve_app.batch WHERE id = %b AND user_id = %b", (id_, user))  # noqa: S608
        return _batch(rows[0]) if rows else None

    async def find_repeated(self, user: str, request_key: str) -> Batch | None:
        """Look up the batch that was made under an Idempotency-Key."""
        rows = await self._line.query(f"SELECT {COLUMNS} FROM serve_app.batch WHERE user_id = %b AND request_key = %b", (user, request_key))  # noqa: S608
        return _batch(rows[0]) if rows else None

    async def page(self, user: str, after: uuid.UUID | None, limit: int) -> list[Batch]:
        """List somebody's batches, the newest first."""
        rows = await self._line.query(
            f"SELECT {COLUMNS} FROM serve_app.batch WHERE user_id = %b AND (%b::uuid IS NULL OR id < %b::uuid) ORDER BY id DESC LIMIT %b",  # noqa: S608
            (user, after, after, limit),
        )
        return [_batch(row) for row in rows]

    async def cancel(self, id_: uuid.UUID, user: str, now: datetime) -> Batch | None:
        """Begin to cancel one of somebody's batches; None: there is nothing to cancel any more."""
        rows = await self._line.query(CANCEL, (now, id_, user))
        return _batch(rows[0]) if rows else None

    # --- their runner's ---------------------------------------------------------------------------------------------------------------

    async def claim(self, runner: str, running: Sequence[uuid.UUID]) -> Batch | None:
        """Take the oldest batch that nobody runs, of an account of which few are run; not one of those that this runner has in hand."""
        rows = await self._line.query(CLAIM, (runner, list(running)))
        return _batch(rows[0]) if rows else None

    async def renew(self, id_: uuid.UUID, runner: str) -> str | None:
        """Renew a lease and tell the batch's state; None: it is somebody else's now."""
        rows = await self._line.query(RENEW, (id_, runner))
        return str(rows[0][0]) if rows else None

    async def release(self, runner: str) -> None:
        """Let the batches of a runner go, so that another one takes them at once."""
        await self._line.query("UPDATE serve_app.batch SET lease_until = NULL WHERE runner = %b AND ended_at IS NULL", (runner,))

    async def move(
        self, id_: uuid.UUID, runner: str, state: str, now: datetime, *, errors: str | None = None, total: int | None = None
    ) -> Batch | None:
        """Bring a batch into its next state; None: it is somebody else's, or to be canceled."""
        rows = await self._line.query(MOVE, (state, state, now, errors, total, id_, runner))
        return _batch(rows[0]) if rows else None

    async def add_lines(self, id_: uuid.UUID, lines: Sequence[tuple[int, str | None]]) -> None:
        """Write down which lines there are: number and custom id; again is the same."""
        await self._line.query(ADD_LINES, (id_, [number for number, _ in lines], [custom_id for _, custom_id in lines]))

    async def next_lines(self, batch: Batch, after: int, *, has_job: bool = False) -> list[BatchLine]:
        """Read some lines that have not ended, in order; `has_job`: of those for which a job was begun."""
        rows = await self._line.query(LINES, (batch.input_file, batch.id, after, has_job))
        return [BatchLine(row[0], row[1] or "", row[2], row[3]) for row in rows]

    async def note_job(self, id_: uuid.UUID, runner: str, number: int, job: uuid.UUID | None) -> None:
        """Say which job runs for a line; None: there is none after all, it will be tried again."""
        await self._line.query(BEGUN, (job, job, id_, number, runner))

    async def end_lines(self, id_: uuid.UUID, runner: str, ends: Sequence[LineEnd]) -> bool:
        """Write the ends of lines, each once; False: the batch is somebody else's now."""
        arrays = ([end.number for end in ends], [end.is_good for end in ends], [end.content for end in ends])
        return bool(await self._line.query(END_LINES, (*arrays, id_, runner)))

    async def finish(self, id_: uuid.UUID, runner: str, state: str, now: datetime, errors: str | None = None) -> bool:
        """End a batch; False: it is somebody else's now."""
        return bool(await self._line.query(FINISH, (state, now, errors, state, now, id_, runner, now + KEPT)))

    async def sweep(self, now: datetime) -> int:
        """Forget some of the batches that ended long ago; answer how many."""
        return len(await self._line.query(SWEEP, (now - KEPT, SWEPT_AT_ONCE)))


def _batch(row: TupleRow) -> Batch:
    return Batch(
        id=row[0], user=row[1], endpoint=row[2], window=row[3], metadata=None if row[4] is None else json.loads(row[4]), input_file=row[5],
        output_file=row[6], error_file=row[7], state=row[8], times=row[9], errors=json.loads(row[10]) if row[10] else [], total=row[11],
        completed=row[12], failed=row[13], credential=row[14], created_at=row[15], expires_at=row[16], digest=row[17], ready=frozenset(row[18] or ()),
    )  # fmt: skip

"""Files of consumers, line by line: what batches read and write. Every statement names the owner, or is a part of a batch's own run."""

import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import TupleRow

from serve_app.db import Line

MAX_FILES = 1000  # of one account
MAX_ACCOUNT_BYTES = 1024 * 1024 * 1024
KEPT = timedelta(days=30)
UPLOAD_KEPT = timedelta(hours=1)  # of one that broke off
BLOCK_BYTES = 1024 * 1024
BLOCK_LINES = 500
SWEPT_AT_ONCE = 1  # one may have 50,000 lines

COLUMNS = "id, user_id, filename, purpose, bytes, created_at, expires_at"
BEGIN = """
INSERT INTO serve_app.file (id, user_id, filename, purpose, bytes, created_at, expires_at)
SELECT %b::uuid, %b::text, '', 'batch', %b::bigint, %b::timestamptz, %b::timestamptz
  FROM (SELECT count(*) AS files, coalesce(sum(bytes), 0) AS bytes FROM serve_app.file WHERE user_id = %b::text) AS kept
 WHERE kept.files < %b AND kept.bytes + %b::bigint <= %b RETURNING id"""
BLOCK = """
SELECT number, content FROM (
  SELECT number, content, sum(length(content)) OVER (ORDER BY number) - length(content) AS before FROM (
    SELECT number, content FROM serve_app.file_line WHERE file_id = %b AND number > %b ORDER BY number LIMIT %b) AS next) AS block
 WHERE before < %b ORDER BY number"""
# A file that a batch reads stays; what a batch under way writes is not ready yet, and nobody's to delete.
IS_FREE = "NOT EXISTS (SELECT FROM serve_app.batch b WHERE b.input_file = f.id AND b.ended_at IS NULL)"
SWEEP = f"""
DELETE FROM serve_app.file WHERE id IN (
  SELECT id FROM serve_app.file f WHERE {IS_FREE} AND (f.expires_at <= %b AND f.is_ready OR NOT f.is_ready AND f.purpose = 'batch' AND f.created_at <= %b)
  ORDER BY expires_at LIMIT %b FOR UPDATE SKIP LOCKED) RETURNING id"""  # noqa: S608


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """A file as it is kept."""

    id: uuid.UUID
    user: str
    filename: str
    purpose: str
    size: int
    created_at: datetime
    expires_at: datetime


class FileStore:
    """Reads and writes files; one statement each, over one connection."""

    def __init__(self, url: str) -> None:
        self._line = Line(url, name="gfe_serve_files")

    async def aclose(self) -> None:
        """Close the connection."""
        await self._line.drop()

    async def begin(self, id_: uuid.UUID, user: str, most_bytes: int, now: datetime) -> bool:
        """Begin a file that may become so large; False: the account has no room for it."""
        rows = await self._line.query(BEGIN, (id_, user, most_bytes, now, now + KEPT, user, MAX_FILES, most_bytes, MAX_ACCOUNT_BYTES))
        return bool(rows)

    async def add(self, id_: uuid.UUID, first: int, lines: Sequence[bytes]) -> None:
        """Write lines, numbered from `first`; again is the same."""
        numbers = list(range(first, first + len(lines)))
        await self._line.query(
            "INSERT INTO serve_app.file_line (file_id, number, content) SELECT %b, * FROM unnest(%b::int[], %b::bytea[]) ON CONFLICT DO NOTHING",
            (id_, numbers, list(lines)),
        )

    async def finish(self, id_: uuid.UUID, filename: str, size: int) -> None:
        """Make a file ready to be used."""
        await self._line.query("UPDATE serve_app.file SET is_ready = true, filename = %b, bytes = %b WHERE id = %b", (filename, size, id_))

    async def drop(self, id_: uuid.UUID) -> None:
        """Delete a file that did not become ready."""
        await self._line.query("DELETE FROM serve_app.file WHERE id = %b AND NOT is_ready", (id_,))

    async def find(self, id_: uuid.UUID, user: str) -> FileRecord | None:
        """Look up one of somebody's files."""
        rows = await self._line.query(f"SELECT {COLUMNS} FROM serve_app.file WHERE id = %b AND user_id = %b AND is_ready", (id_, user))  # noqa: S608
        return _record(rows[0]) if rows else None

    async def page(self, user: str, purpose: str | None, after: uuid.UUID | None, limit: int, *, is_oldest_first: bool) -> list[FileRecord]:
        """List somebody's files by the time of their making."""
        order, beyond = ("ASC", ">") if is_oldest_first else ("DESC", "<")
        rows = await self._line.query(
            f"SELECT {COLUMNS} FROM serve_app.file WHERE user_id = %b AND is_ready AND (%b::text IS NULL OR purpose = %b::text) "  # noqa: S608
            f"AND (%b::uuid IS NULL OR id {beyond} %b::uuid) ORDER BY id {order} LIMIT %b",
            (user, purpose, purpose, after, after, limit),
        )
        return [_record(row) for row in rows]

    async def delete(self, id_: uuid.UUID, user: str) -> bool:
        """Delete one of somebody's files; False: there is none, or a batch reads it."""
        rows = await self._line.query(
            f"DELETE FROM serve_app.file f WHERE f.id = %b AND f.user_id = %b AND f.is_ready AND {IS_FREE} RETURNING f.id",  # noqa: S608
            (id_, user),
        )
        return bool(rows)

    async def blocks(self, id_: uuid.UUID) -> AsyncGenerator[list[tuple[int, bytes]], None]:
        """Read a file's lines with their numbers, in order, about `BLOCK_BYTES` at a time."""
        after = 0
        while rows := await self._line.query(BLOCK, (id_, after, BLOCK_LINES, BLOCK_BYTES)):
            yield [(row[0], row[1]) for row in rows]
            after = rows[-1][0]

    async def sweep(self, now: datetime) -> int:
        """Delete some of the files whose time is over, and of the uploads that broke off; answer how many."""
        return len(await self._line.query(SWEEP, (now, now - UPLOAD_KEPT, SWEPT_AT_ONCE)))


def _record(row: TupleRow) -> FileRecord:
    return FileRecord(id=row[0], user=row[1], filename=row[2], purpose=row[3], size=row[4], created_at=row[5], expires_at=row[6])

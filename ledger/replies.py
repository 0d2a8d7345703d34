"""Answers to requests with an `Idempotency-Key`, kept with what they tell of: a repeat gets the same answer and does nothing."""

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from ledger.db import Connection
from ledger.errors import IdempotencyConflict

KEPT_DAYS = 7


@dataclass(frozen=True, slots=True)
class Request:
    """A request that may be repeated: whose it is, which route, which key, what it says."""

    person: uuid.UUID
    route: str
    key: str
    body: dict[str, Any]

    @property
    def digest(self) -> str:
        """What two requests are compared by."""
        return hashlib.sha256(json.dumps(self.body, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """A stored answer."""

    status: int
    body: dict[str, Any]


async def find(connection: Connection, request: Request) -> Reply | None:
    """Find the answer that this request got before; called first in the transaction that will `keep` one.

    Whoever comes second waits here for the first one's commit (the server's lock limit bounds it).

    Raises:
        IdempotencyConflict: The key was used for another request.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{request.person}:{request.route}:{request.key}"])
    cursor = await connection.execute(
        "SELECT digest, status, body FROM ledger.answered WHERE person_id = %s AND route = %s AND key = %s",
        [request.person, request.route, request.key],
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    if row[0] != request.digest:
        raise IdempotencyConflict
    return Reply(row[1], row[2])


async def keep(connection: Connection, request: Request, reply: Reply) -> None:
    """Keep an answer, in the transaction of what it tells of."""
    await connection.execute(
        "INSERT INTO ledger.answered (person_id, route, key, digest, status, body) VALUES (%s, %s, %s, %s, %s, %s)",
        [request.person, request.route, request.key, request.digest, reply.status, Jsonb(reply.body)],
    )


async def clean_up(connection: Connection) -> None:
    """Forget answers that are older than `KEPT_DAYS`."""
    await connection.execute("DELETE FROM ledger.answered WHERE created_at < clock_timestamp() - make_interval(days => %s)", [KEPT_DAYS])

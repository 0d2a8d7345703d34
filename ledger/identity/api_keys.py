"""API keys: made, verified, listed, revoked. Stored are the public id and an HMAC; the key itself is shown once."""

import asyncio
import hmac
import secrets
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ledger.db import Connection, Database, DatabaseUnavailable
from ledger.errors import CredentialRevoked, CredentialUnknown, LedgerError, LedgerUnavailable, NotFound
from ledger.ids import text_of
from ledger.key_format import ID_LENGTH, PREFIX, SECRET_LENGTH, base62, checksum, key_id
from ledger.wire import Caller

CACHE_S = 2.0  # how long a revocation made in another process may go unnoticed
CACHE_ENTRIES = 10_000
ALL_SCOPES = ("jobs:read", "jobs:write", "wallet:read", "keys:write")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """A key as stored."""

    id: str
    person: uuid.UUID
    username: str
    mac: bytes
    scopes: tuple[str, ...]
    is_revoked: bool

    @property
    def caller(self) -> Caller:
        """Who calls with this key."""
        return Caller.model_construct(user=text_of("user", self.person), username=self.username, key=self.id, scopes=self.scopes)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySummary:
    """A key as its owner sees it."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


def new_key() -> str:
    """Make a key: 256 random bits and a checksum."""
    id_ = base62(secrets.randbits(47), ID_LENGTH)
    head = f"{PREFIX}{id_}_{base62(secrets.randbits(256), SECRET_LENGTH)}"
    return f"{head}_{checksum(head)}"


def mac_of(pepper: bytes, key: str) -> bytes:
    """Authenticate a whole key under the pepper."""
    return hmac.digest(pepper, key.encode(), "sha256")


class KeyRing:
    """Verifies keys; rows are cached for `CACHE_S` and dropped when they are revoked here."""

    def __init__(self, database: Database, pepper: bytes) -> None:
        self._database = database
        self._pepper = pepper
        self._rows: dict[str, tuple[float, KeyRow | None]] = {}
        self._used: set[str] = set()

    async def verify(self, key: str) -> KeyRow:
        """Verify one key.

        Raises:
            NotAuthenticated: Mistyped, unknown or revoked.
            LedgerUnavailable: The database does not answer.
        """
        found = (await self.verify_all([key]))[key]
        if isinstance(found, LedgerError):
            raise found
        return found

    async def verify_all(self, keys: Iterable[str]) -> dict[str, KeyRow | LedgerError]:
        """Verify keys with at most one query; each key gets its own answer."""
        ids: dict[str, str] = {}
        answers: dict[str, KeyRow | LedgerError] = {}
        for key in set(keys):
            try:
                ids[key] = key_id(key)
            except LedgerError as refused:
                answers[key] = refused
        try:
            await self._load({id_ for id_ in ids.values() if not self._is_fresh(id_)})
        except DatabaseUnavailable:
            return answers | dict.fromkeys(ids, LedgerUnavailable())
        for key, id_ in ids.items():
            answers[key] = self._judge(key, self._rows[id_][1])
        return answers

    def _judge(self, key: str, row: KeyRow | None) -> KeyRow | LedgerError:
        if row is None or not hmac.compare_digest(row.mac, mac_of(self._pepper, key)):
            return CredentialUnknown()
        if row.is_revoked:
            return CredentialRevoked()
        self._used.add(row.id)
        return row

    def _is_fresh(self, id_: str) -> bool:
        cached = self._rows.get(id_)
        return cached is not None and time.monotonic() - cached[0] < CACHE_S

    async def _load(self, ids: set[str]) -> None:
        if not ids:
            return

        async def query(connection: Connection) -> list[KeyRow]:
            cursor = await connection.execute(
                "SELECT k.id, k.person_id, p.username, k.mac, k.scopes, k.revoked_at IS NOT NULL FROM ledger.api_key k "
                "JOIN ledger.person p ON p.id = k.person_id WHERE k.id = ANY (%s)",
                [list(ids)],
            )
            return [
                KeyRow(id=id_, person=person, username=username, mac=bytes(mac), scopes=tuple(scopes), is_revoked=revoked)
                for id_, person, username, mac, scopes, revoked in await cursor.fetchall()
            ]

        rows = {row.id: row for row in await self._database.run(query)}
        if len(self._rows) > CACHE_ENTRIES:
            self._rows.clear()
        now = time.monotonic()
        for id_ in ids:
            self._rows[id_] = (now, rows.get(id_))

    async def create(self, person: uuid.UUID, name: str, scopes: tuple[str, ...]) -> str:
        """Make a key for a person and answer it; it is never shown again.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        key = new_key()

        async def insert(connection: Connection) -> None:
            await insert_key(connection, key, self._pepper, person, name, scopes)

        async with self._database.connection() as connection:
            await insert(connection)
        return key

    async def revoke(self, person: uuid.UUID, id_: str) -> None:
        """Revoke a person's own key; revoking twice is fine.

        Raises:
            NotFound: The person has no such key.
        """

        async def update(connection: Connection) -> int:
            cursor = await connection.execute(
                "UPDATE ledger.api_key SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE id = %s AND person_id = %s",
                [id_, person],
            )
            return cursor.rowcount

        changed = await self._database.run(update)
        self._rows.pop(id_, None)
        if not changed:
            raise NotFound("Key", id_)

    async def list_keys(self, person: uuid.UUID) -> list[KeySummary]:
        """List a person's keys, newest first (at most 100)."""

        async def query(connection: Connection) -> list[KeySummary]:
            cursor = await connection.execute(
                "SELECT id, name, scopes, created_at, last_used_at, revoked_at FROM ledger.api_key WHERE person_id = %s ORDER BY created_at DESC LIMIT 100",
                [person],
            )
            return [
                KeySummary(id=row[0], name=row[1], scopes=tuple(row[2]), created_at=row[3], last_used_at=row[4], revoked_at=row[5])
                for row in await cursor.fetchall()
            ]

        return await self._database.run(query)

    async def note_uses(self) -> None:
        """Write down which keys were used since the last call; a lost note is no harm."""
        used, self._used = list(self._used), set()
        if not used:
            return

        async def update(connection: Connection) -> None:
            await connection.execute("UPDATE ledger.api_key SET last_used_at = clock_timestamp() WHERE id = ANY (%s)", [used])

        try:
            await self._database.run(update)
        except (DatabaseUnavailable, asyncio.CancelledError):
            self._used.update(used)
            raise


async def insert_key(connection: Connection, key: str, pepper: bytes, person: uuid.UUID, name: str, scopes: tuple[str, ...]) -> None:
    """Store a key's id and HMAC."""
    await connection.execute(
        "INSERT INTO ledger.api_key (id, person_id, mac, name, scopes) VALUES (%s, %s, %s, %s, %s)",
        [key_id(key), person, mac_of(pepper, key), name, list(scopes)],
    )

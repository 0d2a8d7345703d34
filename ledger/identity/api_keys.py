"""API keys: made, verified, listed, revoked. Stored are the public id and an HMAC; the key itself is shown once."""

import asyncio
import hmac
import secrets
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, LiteralString, TypedDict, cast

from ledger.audit_log import Origin, note
from ledger.db import Connection, Database, DatabaseUnavailable
from ledger.errors import CredentialExpired, CredentialRevoked, CredentialUnknown, LedgerError, LedgerUnavailable, NotFound
from ledger.identity.feed import tell
from ledger.ids import text_of
from ledger.key_format import ID_LENGTH, PREFIX, SECRET_LENGTH, base62, checksum, key_id
from ledger.money import budgets
from ledger.money.budgets import Budget, Period
from ledger.wire import Caller

CACHE_S = 2.0  # how long a revocation made in another process may go unnoticed
CACHE_ENTRIES = 10_000


class Limits(TypedDict, total=False):
    """What a key is limited to; as columns of its row. Budgets in micro-credits; what is absent or None is not limited."""

    budget_day: int | None
    budget_month: int | None
    budget_total: int | None
    per_minute: int | None
    models: list[str] | None
    expires_at: datetime | None
    privacy: Literal["community", "trusted"]


LIMITS = ("budget_day", "budget_month", "budget_total", "per_minute", "models", "expires_at", "privacy")
_BUDGETS: dict[Period, Literal["budget_day", "budget_month", "budget_total"]] = {
    "day": "budget_day", "month": "budget_month", "total": "budget_total",
}  # fmt: skip


def budget_amounts(limits: Limits) -> dict[Period, int | None]:
    """Tell the budgets that limits name, by period."""
    return {period: limits[column] for period, column in _BUDGETS.items() if column in limits}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """A key as stored."""

    id: str
    person: uuid.UUID
    mac: bytes
    is_revoked: bool
    caller: Caller
    limits: Limits

    def budgets(self, now: datetime) -> tuple[Budget, ...]:
        """List the budgets that bind it now."""
        return budgets.budgets_of(self.id, budget_amounts(self.limits), now)

    @property
    def scopes(self) -> tuple[str, ...]:
        """What the key may do."""
        return self.caller.scopes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySummary:
    """A key as its owner sees it."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    limits: Limits


def new_key() -> str:
    """Make a key: 256 random bits and a checksum."""
    id_ = base62(secrets.randbits(47), ID_LENGTH)
    head = f"{PREFIX}{id_}_{base62(secrets.randbits(256), SECRET_LENGTH)}"
    return f"{head}_{checksum(head)}"


def mac_of(pepper: bytes, key: str) -> bytes:
    """Authenticate a whole key under the pepper."""
    return hmac.digest(pepper, key.encode(), "sha256")


class KeyRing:
    """Verifies keys; rows are cached for `CACHE_S`. A key that is revoked through this object is cut at once."""

    def __init__(self, database: Database, pepper: bytes) -> None:
        self._database = database
        self._pepper = pepper
        self._rows: dict[str, tuple[float, KeyRow | None]] = {}
        self._revoked: set[str] = set()  # here, in this process: also against a look-up that was on its way meanwhile
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
            rows = await self._look_up(set(ids.values()))
        except DatabaseUnavailable:
            return answers | dict.fromkeys(ids, LedgerUnavailable())
        for key, id_ in ids.items():
            answers[key] = self._judge(key, rows.get(id_))
        return answers

    def _judge(self, key: str, row: KeyRow | None) -> KeyRow | LedgerError:
        if row is None or not hmac.compare_digest(row.mac, mac_of(self._pepper, key)):
            return CredentialUnknown()
        if row.is_revoked or row.id in self._revoked:
            return CredentialRevoked()
        expires_at = row.limits.get("expires_at")
        if expires_at is not None and expires_at <= datetime.now(UTC):
            return CredentialExpired()
        self._used.add(row.id)
        return row

    async def _look_up(self, ids: set[str]) -> dict[str, KeyRow | None]:
        """Answer rows by id, from the cache where it is fresh."""
        now = time.monotonic()
        rows = {id_: cached[1] for id_ in ids if (cached := self._rows.get(id_)) is not None and now - cached[0] < CACHE_S}
        if missing := ids - rows.keys():
            loaded = await self._load(missing)
            if len(self._rows) > CACHE_ENTRIES:
                self._rows.clear()
            for id_ in missing:
                rows[id_] = loaded.get(id_)
                self._rows[id_] = (now, rows[id_])
        return rows

    async def _load(self, ids: set[str]) -> dict[str, KeyRow]:
        async def query(connection: Connection) -> list[KeyRow]:
            cursor = await connection.execute(
                f"SELECT k.id, k.person_id, p.username, k.mac, k.scopes, k.revoked_at IS NOT NULL OR p.blocked_at IS NOT NULL, {_COLUMNS} "  # noqa: S608
                "FROM ledger.api_key k JOIN ledger.person p ON p.id = k.person_id WHERE k.id = ANY (%s)",
                [list(ids)],
            )
            return [
                KeyRow(
                    id=id_, person=person, mac=bytes(mac), is_revoked=revoked, limits=_limits(rest),
                    caller=Caller(
                        user=text_of("user", person), username=username, key=id_, scopes=tuple(scopes), privacy=_limits(rest)["privacy"],
                    ),
                )
                for id_, person, username, mac, scopes, revoked, *rest in await cursor.fetchall()
            ]  # fmt: skip

        return {row.id: row for row in await self._database.run(query)}

    async def create(self, person: uuid.UUID, name: str, scopes: tuple[str, ...], limits: Limits, origin: Origin) -> str:
        """Make a key for a person and answer it; it is never shown again.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        while True:
            key = new_key()

            async def insert(connection: Connection, key: str = key) -> bool:
                if not await insert_key(connection, key, self._pepper, person, name, scopes, limits):
                    return False
                await note(connection, origin, "key.created", f"key_{key_id(key)}", scopes=list(scopes))
                return True

            if await self._database.transact(insert):
                return key

    async def change(self, person: uuid.UUID, id_: str, name: str | None, limits: Limits, origin: Origin) -> KeySummary:
        """Change a key's name and limits; what `limits` does not name stays.

        Raises:
            NotFound: The person has no such key.
            DatabaseUnavailable: The database does not answer.
        """

        async def work(connection: Connection) -> KeySummary | None:
            cursor = await connection.execute("SELECT 1 FROM ledger.api_key WHERE id = %s AND person_id = %s FOR UPDATE", [id_, person])
            if await cursor.fetchone() is None:
                return None
            values: dict[str, Any] = {**({} if name is None else {"name": name}), **limits}
            for column, value in values.items():
                await connection.execute(f"UPDATE ledger.api_key SET {column} = %s WHERE id = %s", [value, id_])  # noqa: S608
            await budgets.change(connection, id_, budget_amounts(limits), datetime.now(UTC))
            await note(connection, origin, "key.changed", f"key_{id_}", fields=sorted(values))
            return (await _summaries(connection, "id = %(id)s", {"person": person, "id": id_, "limit": 1}))[0]

        found = await self._database.transact(work)
        if found is None:
            raise NotFound("Key", id_)
        self._rows.pop(id_, None)
        return found

    async def revoke(self, person: uuid.UUID, id_: str, origin: Origin) -> None:
        """Revoke a person's own key; revoking twice is fine.

        Raises:
            NotFound: The person has no such key.
            DatabaseUnavailable: The database does not answer.
        """

        async def update(connection: Connection) -> int:
            async with connection.transaction():
                mine = await connection.execute("SELECT 1 FROM ledger.api_key WHERE id = %s AND person_id = %s", [id_, person])
                cut = await connection.execute(
                    "UPDATE ledger.api_key SET revoked_at = clock_timestamp() WHERE id = %s AND person_id = %s AND revoked_at IS NULL",
                    [id_, person],
                )
                if cut.rowcount:
                    await note(connection, origin, "key.revoked", f"key_{id_}")
                    await tell(connection, "key_revoked", id_)
                return mine.rowcount

        if not await self._database.run(update):
            raise NotFound("Key", id_)
        self._revoked.add(id_)

    async def list_keys(self, person: uuid.UUID, *, limit: int, before: tuple[datetime, str] | None) -> list[KeySummary]:
        """List a person's keys, newest first; `before` is where an earlier page ended.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """

        async def query(connection: Connection) -> list[KeySummary]:
            at, id_ = before or (None, None)
            condition = "(%(at)s::timestamptz IS NULL OR (created_at, id) < (%(at)s::timestamptz, %(id)s::text))"
            return await _summaries(connection, condition, {"person": person, "at": at, "id": id_, "limit": limit})

        return await self._database.run(query)

    async def note_uses(self) -> None:
        """Write down which keys were used since the last call; a lost note is no harm."""
        used, self._used = list(self._used), set()
        if not used:
            return

        async def update(connection: Connection) -> None:
            await connection.execute(
                "UPDATE ledger.api_key SET last_used_at = date_trunc('minute', clock_timestamp()) WHERE id = ANY (%s)", [used]
            )

        try:
            await self._database.run(update)
        except (DatabaseUnavailable, asyncio.CancelledError):
            self._used.update(used)
            raise


_COLUMNS = ", ".join(LIMITS)


def _limits(values: list[Any]) -> Limits:
    return cast("Limits", dict(zip(LIMITS, values, strict=True)))


async def _summaries(connection: Connection, condition: LiteralString, values: dict[str, Any]) -> list[KeySummary]:
    cursor = await connection.execute(
        f"SELECT id, name, scopes, created_at, last_used_at, revoked_at, {_COLUMNS} FROM ledger.api_key "  # noqa: S608
        f"WHERE person_id = %(person)s AND {condition} ORDER BY created_at DESC, id DESC LIMIT %(limit)s",
        values,
    )
    return [
        KeySummary(
            id=row[0],
            name=row[1],
            scopes=tuple(row[2]),
            created_at=row[3],
            last_used_at=row[4],
            revoked_at=row[5],
            limits=_limits(list(row[6:])),
        )
        for row in await cursor.fetchall()
    ]


async def insert_key(
    connection: Connection, key: str, pepper: bytes, person: uuid.UUID, name: str, scopes: tuple[str, ...], limits: Limits | None = None
) -> bool:
    """Store a key's id and HMAC; the same key again changes nothing. False: another key has this id."""
    given: dict[str, Any] = dict(limits or {})
    columns = "".join(f", {column}" for column in given)
    cursor = await connection.execute(
        f"INSERT INTO ledger.api_key (id, person_id, mac, name, scopes{columns}) VALUES (%s, %s, %s, %s, %s{', %s' * len(given)}) "  # noqa: S608
        "ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE api_key.mac = excluded.mac",
        [key_id(key), person, mac_of(pepper, key), name, list(scopes), *given.values()],
    )
    return cursor.rowcount == 1

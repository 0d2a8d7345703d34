"""Sign-ins: a short access token that anybody can verify by our public key, and a refresh token that is spent once.

A refresh token is 256 random bits, stored as SHA-256; each use gives a new one of the same family. A spent token that comes again is
honest for `GRACE_S` (two tabs, a lost reply); later it is a thief's or its victim's, and the whole family is revoked (RFC 9700, 4.14.2).
"""

import hashlib
import secrets
import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ledger.audit_log import Origin, note
from ledger.db import Connection, Database
from ledger.errors import NotFound, TokenInvalid
from ledger.identity.feed import tell
from ledger.identity.people import Person
from ledger.identity.signing_keys import SigningKeys
from ledger.ids import new_uuid7, text_of

ACCESS_S = 600
GRACE_S = 10
SLIDING = timedelta(days=30)
LONGEST = timedelta(days=90)
AUDIENCE = "api"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a sign-in gives."""

    access: str
    refresh: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """A sign-in as its owner sees it: since when, when it was last renewed, until when at most, from where."""

    id: uuid.UUID
    created_at: datetime
    renewed_at: datetime
    expires_at: datetime
    address: str | None
    program: str | None


@dataclass(frozen=True, slots=True)
class _Spent:
    """A refresh token came again after its grace: its family is revoked."""


def new_refresh_token() -> str:
    """Make a refresh token."""
    return f"gfe_refresh_{secrets.token_urlsafe(32)}"


def hash_of(token: str) -> bytes:
    """Hash a token of ours as it is stored; it has too many random bits to need more."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


class Sessions:
    """Opens, renews and ends sign-ins."""

    def __init__(self, database: Database, keys: SigningKeys) -> None:
        self._database = database
        self._keys = keys

    def _access(self, person: Person, session: uuid.UUID) -> str:
        now = int(time.time())
        scope = " ".join(person.scopes)
        claims: dict[str, Any] = {
            "aud": AUDIENCE, "sub": text_of("user", person.id), "sid": str(session), "jti": secrets.token_hex(16), "iat": now,
            "exp": now + ACCESS_S, "scope": scope, "name": person.username,
        }  # fmt: skip
        return self._keys.sign(claims)

    async def open(self, connection: Connection, person: Person, origin: Origin, how: str) -> Tokens:
        """Begin a sign-in, in the caller's transaction."""
        session, refresh = new_uuid7(), new_refresh_token()
        await connection.execute(
            "INSERT INTO ledger.session (id, person_id, expires_at, fresh_at, address, program) "
            "VALUES (%s, %s, clock_timestamp() + %s, clock_timestamp(), %s, %s)",
            [session, person.id, LONGEST, origin.address, origin.program],
        )
        await _add_token(connection, session, refresh)
        await note(connection, origin, "session.opened", text_of("user", person.id), session=str(session), how=how)
        return Tokens(self._access(person, session), refresh)

    async def refresh(self, token: str, origin: Origin) -> Tokens:
        """Spend a refresh token for a new pair.

        Raises:
            TokenInvalid: Unknown, expired, revoked, or spent before.
            DatabaseUnavailable: The database does not answer; the same token may be sent again for `GRACE_S`.
        """

        async def work(connection: Connection) -> Tokens | _Spent | None:
            cursor = await connection.execute(
                "SELECT s.id, p.id, p.username, p.role, p.is_operator, r.spent_at < clock_timestamp() - make_interval(secs => %s) "
                "FROM ledger.refresh_token r JOIN ledger.session s ON s.id = r.session_id JOIN ledger.person p ON p.id = s.person_id "
                "WHERE r.hash = %s AND r.expires_at > clock_timestamp() AND s.expires_at > clock_timestamp() AND s.revoked_at IS NULL "
                "AND p.blocked_at IS NULL FOR UPDATE OF s",
                [GRACE_S, hash_of(token)],
            )
            row = await cursor.fetchone()
            if row is None:
                return None
            session, is_stale = row[0], row[5]
            if is_stale:
                await note(connection, origin, "session.reuse_detected", text_of("user", row[1]), session=str(session))
                await _revoke(connection, [session])
                return _Spent()
            refresh = new_refresh_token()
            await connection.execute(
                "UPDATE ledger.refresh_token SET spent_at = coalesce(spent_at, clock_timestamp()) WHERE hash = %s", [hash_of(token)]
            )
            await _add_token(connection, session, refresh)
            return Tokens(self._access(Person(row[1], row[2], row[3], row[4]), session), refresh)

        answered = await self._database.transact(work)
        if not isinstance(answered, Tokens):
            raise TokenInvalid
        return answered

    async def close(self, token: str, origin: Origin) -> None:
        """End the sign-in that a refresh token belongs to; an unknown token is no harm.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """

        async def work(connection: Connection) -> None:
            cursor = await connection.execute(
                "SELECT s.id, s.person_id FROM ledger.session s JOIN ledger.refresh_token r ON r.session_id = s.id "
                "WHERE r.hash = %s AND s.revoked_at IS NULL FOR UPDATE OF s",
                [hash_of(token)],
            )
            if row := await cursor.fetchone():
                await note(connection, origin, "session.closed", text_of("user", row[1]), session=str(row[0]))
                await _revoke(connection, [row[0]])

        await self._database.transact(work)

    async def open_ones(self, person: uuid.UUID, *, limit: int, before: tuple[datetime, uuid.UUID] | None) -> list[OpenSession]:
        """List a person's open sign-ins, newest first; `before` is where an earlier page ended.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """

        async def query(connection: Connection) -> list[OpenSession]:
            cursor = await connection.execute(
                "SELECT s.id, s.created_at, coalesce(r.at, s.created_at), s.expires_at, s.address, s.program FROM ledger.session s "
                "CROSS JOIN LATERAL (SELECT max(t.created_at) AS at, max(t.expires_at) AS until FROM ledger.refresh_token t WHERE t.session_id = s.id) r "
                "WHERE s.person_id = %(person)s AND s.revoked_at IS NULL AND s.expires_at > clock_timestamp() AND r.until > clock_timestamp() "
                "AND (%(at)s::timestamptz IS NULL OR (s.created_at, s.id) < (%(at)s::timestamptz, %(id)s::uuid)) "
                "ORDER BY s.created_at DESC, s.id DESC LIMIT %(limit)s",
                {"person": person, "at": before and before[0], "id": before and before[1], "limit": limit},
            )
            return [
                OpenSession(id=row[0], created_at=row[1], renewed_at=row[2], expires_at=row[3], address=row[4], program=row[5])
                for row in await cursor.fetchall()
            ]

        return await self._database.run(query)

    async def end(self, person: uuid.UUID, session: uuid.UUID, origin: Origin) -> None:
        """End one of a person's sign-ins; ending it twice is fine.

        Raises:
            NotFound: The person has no such sign-in.
            DatabaseUnavailable: The database does not answer.
        """

        async def work(connection: Connection) -> bool:
            cursor = await connection.execute(
                "SELECT revoked_at FROM ledger.session WHERE id = %s AND person_id = %s FOR UPDATE", [session, person]
            )
            row = await cursor.fetchone()
            if row is not None and row[0] is None:
                await note(connection, origin, "session.closed", text_of("user", person), session=str(session))
                await _revoke(connection, [session])
            return row is not None

        if not await self._database.transact(work):
            raise NotFound("Session", str(session))

    async def end_others(self, person: uuid.UUID, kept: uuid.UUID, origin: Origin) -> None:
        """End all of a person's sign-ins but one.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """

        async def work(connection: Connection) -> None:
            await close_all(connection, person, but=kept)
            await note(connection, origin, "session.others_closed", text_of("user", person), session=str(kept))

        await self._database.transact(work)


async def _add_token(connection: Connection, session: uuid.UUID, token: str) -> None:
    await connection.execute(
        "INSERT INTO ledger.refresh_token (hash, session_id, expires_at) "
        "SELECT %s, s.id, least(s.expires_at, clock_timestamp() + %s) FROM ledger.session s WHERE s.id = %s",
        [hash_of(token), SLIDING, session],
    )


async def _revoke(connection: Connection, sessions: list[uuid.UUID]) -> None:
    await connection.execute("UPDATE ledger.session SET revoked_at = clock_timestamp() WHERE id = ANY (%s)", [sessions])
    for session in sessions:
        await tell(connection, "session_revoked", str(session))


async def close_all(connection: Connection, person: uuid.UUID, *, but: uuid.UUID | None = None) -> None:
    """End every sign-in of a person but one, in the caller's transaction: the password has changed, or they are blocked."""
    cursor = await connection.execute(
        "SELECT id FROM ledger.session WHERE person_id = %s AND revoked_at IS NULL AND expires_at > clock_timestamp() "
        "AND id IS DISTINCT FROM %s ORDER BY id FOR UPDATE",
        [person, but],
    )
    await _revoke(connection, [row[0] for row in await cursor.fetchall()])


async def clean_up(connection: Connection) -> None:
    """Forget sign-ins that ended long ago; their tokens go with them."""
    await connection.execute("DELETE FROM ledger.session WHERE expires_at < clock_timestamp() - interval '1 day'")

"""Who calls: an API key, or the access token of a sign-in. One look into the database for a whole batch."""

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from ledger.db import Connection, Database, DatabaseUnavailable
from ledger.errors import CredentialRevoked, CredentialUnknown, LedgerError, LedgerUnavailable, NotPermitted
from ledger.identity.api_keys import KeyRing, KeyRow
from ledger.identity.people import OPERATOR_SCOPE, Person
from ledger.identity.sessions import AUDIENCE
from ledger.identity.signing_keys import SigningKeys
from ledger.ids import text_of
from ledger.wire import Caller

CACHE_S = 2.0  # how long an end of a sign-in made in another process may go unnoticed
CACHE_ENTRIES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls, by what, and what they may do. A key or a sign-in, never both."""

    person: uuid.UUID
    caller: Caller
    key: KeyRow | None = None
    session: uuid.UUID | None = None

    @property
    def scopes(self) -> tuple[str, ...]:
        """What the credential may do."""
        return self.caller.scopes

    @property
    def id(self) -> str:
        """The key's public id; empty for a sign-in."""
        return self.key.id if self.key else ""

    @property
    def who(self) -> Person:
        """The person behind it."""
        return Person(self.person, self.caller.username, is_operator=OPERATOR_SCOPE in self.scopes)


@dataclass(frozen=True, slots=True)
class _Session:
    person: uuid.UUID
    username: str
    is_over: bool
    is_operator: bool


class Credentials:
    """Verifies credentials of both kinds."""

    def __init__(self, database: Database, keys: KeyRing, signing_keys: SigningKeys) -> None:
        self._database = database
        self._keys = keys
        self._signing_keys = signing_keys
        self._sessions: dict[uuid.UUID, tuple[float, _Session | None]] = {}

    async def verify(self, credential: str) -> Principal:
        """Verify one credential.

        Raises:
            NotAuthenticated: Mistyped, unknown, expired or revoked.
            LedgerUnavailable: The database does not answer.
        """
        found = (await self.verify_all([credential]))[credential]
        if isinstance(found, LedgerError):
            raise found
        return found

    async def operator(self, session: uuid.UUID) -> Principal:
        """Tell whose sign-in this is; it must be open, and an operator's.

        Raises:
            NotAuthenticated: There is none, or it has ended.
            NotPermitted: It is not an operator's.
            LedgerUnavailable: The database does not answer.
        """
        try:
            found = await self._look_up({session})
        except DatabaseUnavailable as failed:
            raise LedgerUnavailable from failed
        judged = _judge(session, found[session], (OPERATOR_SCOPE,))
        if isinstance(judged, LedgerError):
            raise judged
        if OPERATOR_SCOPE not in judged.scopes:
            raise NotPermitted(OPERATOR_SCOPE)
        return judged

    async def verify_all(self, credentials: Iterable[str]) -> dict[str, Principal | LedgerError]:
        """Verify credentials; each gets its own answer."""
        given = set(credentials)
        tokens = {one for one in given if one.count(".") == 2}
        answers: dict[str, Principal | LedgerError] = {}
        for key, found in (await self._keys.verify_all(given - tokens)).items():
            answers[key] = found if isinstance(found, LedgerError) else Principal(person=found.person, caller=found.caller, key=found)
        return answers | await self._verify_tokens(tokens)

    async def _verify_tokens(self, tokens: set[str]) -> dict[str, Principal | LedgerError]:
        answers: dict[str, Principal | LedgerError] = {}
        claims = {}
        for token in tokens:
            try:
                said = self._signing_keys.verify(token, AUDIENCE)
                claims[token] = (uuid.UUID(said["sid"]), tuple(str(said["scope"]).split()))
            except LedgerError as refused:
                answers[token] = refused
            except (KeyError, ValueError):
                answers[token] = CredentialUnknown()
        try:
            sessions = await self._look_up({session for session, _ in claims.values()})
        except DatabaseUnavailable:
            return answers | dict.fromkeys(claims, LedgerUnavailable())
        for token, (id_, scopes) in claims.items():
            answers[token] = _judge(id_, sessions.get(id_), scopes)
        return answers

    async def _look_up(self, ids: set[uuid.UUID]) -> dict[uuid.UUID, _Session | None]:
        now = time.monotonic()
        found = {id_: kept[1] for id_ in ids if (kept := self._sessions.get(id_)) is not None and now - kept[0] < CACHE_S}
        if missing := ids - found.keys():
            loaded = await self._load(missing)
            if len(self._sessions) > CACHE_ENTRIES:
                self._sessions.clear()
            for id_ in missing:
                found[id_] = loaded.get(id_)
                self._sessions[id_] = (now, found[id_])
        return found

    async def _load(self, ids: set[uuid.UUID]) -> dict[uuid.UUID, _Session]:
        async def query(connection: Connection) -> dict[uuid.UUID, _Session]:
            cursor = await connection.execute(
                "SELECT s.id, p.id, p.username, s.revoked_at IS NOT NULL OR s.expires_at < clock_timestamp() OR p.blocked_at IS NOT NULL, p.is_operator "
                "FROM ledger.session s JOIN ledger.person p ON p.id = s.person_id WHERE s.id = ANY (%s)",
                [list(ids)],
            )
            return {row[0]: _Session(*row[1:]) for row in await cursor.fetchall()}

        return await self._database.run(query)

    def forget_sessions(self) -> None:
        """Look again at the next call: a sign-in was ended through this process."""
        self._sessions.clear()


def _judge(id_: uuid.UUID, session: _Session | None, scopes: tuple[str, ...]) -> Principal | LedgerError:
    if session is None:
        return CredentialUnknown()
    if session.is_over:
        return CredentialRevoked()
    allowed = tuple(scope for scope in scopes if scope != OPERATOR_SCOPE or session.is_operator)
    caller = Caller(user=text_of("user", session.person), username=session.username, key="", scopes=allowed)
    return Principal(person=session.person, caller=caller, session=id_)

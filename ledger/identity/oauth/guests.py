"""Whom a provider's account belongs to here: sign in, join, or make a new account; and how people link and unlink them."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import psycopg

from ledger.audit_log import Origin, note
from ledger.db import Connection, Database
from ledger.errors import InvalidFields, InvalidRequest, NotFound, SignInFailed, TokenInvalid, TotpRequired
from ledger.identity.limits import Bucket, Limits
from ledger.identity.oauth.exchange import Exchange, Outside
from ledger.identity.oauth.journey import LIFETIME_S, Journey, address_of, hash_of, name_like, return_path
from ledger.identity.oauth.providers import Provider
from ledger.identity.people import Person, get_person, register
from ledger.identity.sessions import Sessions, Tokens
from ledger.identity.sign_in import Gifts, SignIn
from ledger.ids import text_of

BEGINS_PER_MINUTE = 30
NAME_TRIES = 20
_FIND = (
    "SELECT p.id, p.username, p.role, p.is_operator, p.blocked_at IS NOT NULL, p.totp_confirmed_at IS NOT NULL FROM ledger.person p "
    "JOIN ledger.sign_in s ON s.person_id = p.id WHERE s.provider = %s AND s.subject = %s"
)
_FIND_BY_EMAIL = (
    "SELECT id, username, role, is_operator, blocked_at IS NOT NULL, totp_confirmed_at IS NOT NULL FROM ledger.person "
    "WHERE lower(email) = lower(%s) AND email_verified_at IS NOT NULL AND NOT is_operator"
)


@dataclass(frozen=True, slots=True)
class Linked:
    """A provider's account that its owner signs in with."""

    provider: str
    email: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Arrived:
    """How a journey ended. `tokens` None: linked, or `waits` for the second factor under this new state."""

    return_to: str
    tokens: Tokens | None = None
    waits: str | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    person: Person
    is_blocked: bool
    has_totp: bool


@dataclass(frozen=True, slots=True)
class _Remembered:
    journey: Journey
    return_to: str
    person: uuid.UUID | None


class Guests:
    """The use cases. No transaction is open while a provider is asked."""

    def __init__(
        self, database: Database, providers: Mapping[str, Provider], exchange: Exchange, sessions: Sessions, sign_in: SignIn, limits: Limits,
        gifts: Gifts, site_url: str,
    ) -> None:  # fmt: skip
        self._database = database
        self.providers = providers
        self._exchange = exchange
        self._sessions = sessions
        self._sign_in = sign_in
        self._limits = limits
        self._gifts = gifts
        self._site_url = site_url

    async def aclose(self) -> None:
        """Close connections to providers."""
        await self._exchange.aclose()

    def _provider(self, name: str) -> Provider:
        provider = self.providers.get(name)
        if provider is None:
            raise NotFound("Provider", name[:60])
        return provider

    def _redirect_uri(self, provider: Provider) -> str:
        return f"{self._site_url}/api/core/oauth/{provider.name}/callback/"

    # --- there ---------------------------------------------------------------------------------------------------------------------

    async def begin(self, name: str, return_to: str | None, origin: Origin, person: uuid.UUID | None = None) -> tuple[str, str]:
        """Begin a sign-in, or with `person` a link; answer the address to go to and the state that the browser keeps.

        Raises:
            NotFound: There is no such provider.
            SignInFailed: It does not answer.
            RateLimited: Too many begin from this address.
        """
        provider = self._provider(name)
        await self._limits.require_room("sign-ins per minute", Bucket(f"oauth:{origin.address}", BEGINS_PER_MINUTE))
        authorize_url = await self._exchange.authorize_url(provider)
        journey = Journey.begin()
        await self._database.run(lambda connection: _remember(connection, provider.name, journey, return_path(return_to), person))
        return address_of(authorize_url, provider, journey, self._redirect_uri(provider)), journey.state

    # --- and back ------------------------------------------------------------------------------------------------------------------

    async def arrive(self, name: str, state: str, code: str, origin: Origin) -> Arrived:
        """End a journey whose state the browser has shown.

        Raises:
            NotFound: There is no such provider.
            TokenInvalid: The state is unknown, used or too old.
            SignInFailed: The provider says no, or what it says does not hold; or the account here is blocked or another's.
            DatabaseUnavailable: The database does not answer.
        """
        provider = self._provider(name)
        remembered = await self._database.run(lambda connection: _recall(connection, provider.name, state))
        if remembered is None:
            raise TokenInvalid
        outside = await self._exchange.identify(provider, code, remembered.journey, self._redirect_uri(provider))
        if remembered.person is not None:
            await self._link(remembered.person, outside, origin)
            return Arrived(remembered.return_to)
        for is_last in (False, True):
            try:
                return await self._database.transact(lambda connection: self._admit(connection, outside, remembered.return_to, origin))
            except psycopg.errors.UniqueViolation:  # the same account came in twice at once: the other one is in the books now
                if is_last:
                    raise SignInFailed(provider.name, "another account here has proven its address") from None
        raise AssertionError

    async def _admit(self, connection: Connection, outside: Outside, return_to: str, origin: Origin) -> Arrived:
        known = await self._known_or_new(connection, outside, origin)
        if known.is_blocked:
            raise SignInFailed(outside.provider, "this account is blocked", "account_blocked")
        if known.has_totp:
            journey = Journey.begin()
            await _remember(connection, outside.provider, journey, return_to, known.person.id, is_proven=True)
            return Arrived(return_to, waits=journey.state)
        return Arrived(return_to, await self._sessions.open(connection, known.person, _own(known.person, origin), outside.provider))

    async def _known_or_new(self, connection: Connection, outside: Outside, origin: Origin) -> _Known:
        if found := await _find(connection, _FIND, outside.provider, outside.subject):
            return found
        # An address proves who somebody is only where both sides have proven it; an operator links by hand.
        found = await _find(connection, _FIND_BY_EMAIL, outside.email) if outside.email else None
        if found is None:
            found = _Known(await self._register(connection, outside, origin), is_blocked=False, has_totp=False)
        if not found.is_blocked:
            await _add(connection, found.person, outside, _own(found.person, origin))
        return found

    async def _register(self, connection: Connection, outside: Outside, origin: Origin) -> Person:
        """Make an account under the nearest free name; the provider has proven its address, or it has none."""
        wish = name_like(outside.name)
        has_welcome = bool(outside.email) or not self._gifts.is_welcome_delayed
        for number in range(1, NAME_TRIES + 1):
            name = wish if number == 1 else f"{wish}-{number}" if number < NAME_TRIES else f"{wish}-{uuid.uuid4().hex[:12]}"
            try:
                person = await register(
                    connection, name, role="USER", welcome=self._gifts.welcome if has_welcome else 0, open_jobs=self._gifts.open_jobs,
                    email=outside.email, is_email_verified=bool(outside.email),
                )  # fmt: skip
            except InvalidFields:
                continue
            await note(connection, _own(person, origin), "person.registered", text_of("user", person.id), provider=outside.provider)
            return person
        raise SignInFailed(outside.provider, "no name is free for a new account")

    async def finish(self, state: str, code: str, origin: Origin) -> Tokens:
        """Sign in with the second factor after a journey.

        Raises:
            TokenInvalid: Nobody waits under this state any more.
            TotpRequired: The digits do not fit.
            RateLimited: Too many failures.
        """

        async def work(connection: Connection) -> Tokens | uuid.UUID:
            cursor = await connection.execute(
                "SELECT person_id, provider FROM ledger.oauth_state WHERE hash = %s AND is_proven AND expires_at > clock_timestamp()",
                [hash_of(state)],
            )
            row = await cursor.fetchone()
            person = await get_person(connection, row[0]) if row else None
            if row is None or person is None:
                raise TokenInvalid
            await self._limits.require_patience(f"totp:{person.id}")
            try:
                async with connection.transaction():
                    await self._sign_in.use_totp(connection, person.id, code)
            except TotpRequired:
                return person.id
            await connection.execute("DELETE FROM ledger.oauth_state WHERE hash = %s", [hash_of(state)])
            return await self._sessions.open(connection, person, _own(person, origin), row[1])

        done = await self._database.transact(work)
        if isinstance(done, Tokens):
            return done
        await self._limits.note_failure(f"totp:{done}")
        raise TotpRequired

    # --- links ---------------------------------------------------------------------------------------------------------------------

    async def _link(self, person: uuid.UUID, outside: Outside, origin: Origin) -> None:
        async def work(connection: Connection) -> None:
            owner = await _find(connection, _FIND, outside.provider, outside.subject)
            if owner is not None and owner.person.id != person:
                raise SignInFailed(outside.provider, "another account here signs in with it", "oauth_taken")
            who = await get_person(connection, person)
            if owner is None and who is not None:
                await _add(connection, who, outside, _own(who, origin))

        try:
            await self._database.transact(work)
        except psycopg.errors.UniqueViolation:
            raise SignInFailed(outside.provider, "another account here signs in with it", "oauth_taken") from None

    async def links(self, person: uuid.UUID) -> list[Linked]:
        """List what somebody signs in with."""

        async def query(connection: Connection) -> list[Linked]:
            cursor = await connection.execute(
                "SELECT provider, email, created_at FROM ledger.sign_in WHERE person_id = %s ORDER BY created_at", [person]
            )
            return [Linked(*row) for row in await cursor.fetchall()]

        return await self._database.run(query)

    async def unlink(self, person: uuid.UUID, name: str, origin: Origin) -> None:
        """Take a provider away, unless it is the only way in.

        Raises:
            NotFound: It is not linked.
            InvalidRequest: There is neither a password nor another provider.
        """

        async def work(connection: Connection) -> None:
            cursor = await connection.execute(
                "SELECT password_hash IS NOT NULL FROM ledger.person WHERE id = %s FOR NO KEY UPDATE", [person]
            )
            has_password = bool((await cursor.fetchone() or (False,))[0])
            cursor = await connection.execute("SELECT provider FROM ledger.sign_in WHERE person_id = %s", [person])
            linked = [row[0] for row in await cursor.fetchall()]
            if name not in linked:
                raise NotFound("Provider", name[:60])
            if not has_password and set(linked) == {name}:
                raise InvalidRequest("", "This is your only way in. Set a password first.")
            await connection.execute("DELETE FROM ledger.sign_in WHERE person_id = %s AND provider = %s", [person, name])
            await note(connection, origin, "sign_in.unlinked", text_of("user", person), provider=name)

        await self._database.transact(work)


async def _remember(
    connection: Connection, provider: str, journey: Journey, return_to: str, person: uuid.UUID | None, *, is_proven: bool = False
) -> None:
    await connection.execute(
        "INSERT INTO ledger.oauth_state (hash, provider, verifier, nonce, return_to, person_id, is_proven, expires_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s)) ON CONFLICT DO NOTHING",
        [hash_of(journey.state), provider, journey.verifier, journey.nonce, return_to, person, is_proven, LIFETIME_S],
    )


async def _recall(connection: Connection, provider: str, state: str) -> _Remembered | None:
    """Use a state up."""
    cursor = await connection.execute(
        "DELETE FROM ledger.oauth_state WHERE hash = %s AND provider = %s AND NOT is_proven AND expires_at > clock_timestamp() "
        "RETURNING verifier, nonce, return_to, person_id",
        [hash_of(state), provider],
    )
    row = await cursor.fetchone()
    return _Remembered(Journey(state, row[0], row[1]), row[2], row[3]) if row else None


async def clean_up(connection: Connection) -> None:
    """Forget journeys that nobody ended."""
    await connection.execute("DELETE FROM ledger.oauth_state WHERE expires_at < clock_timestamp()")


async def _find(connection: Connection, query: str, *values: str) -> _Known | None:
    cursor = await connection.execute(query.encode(), values)
    row = await cursor.fetchone()
    return _Known(Person(*row[:4]), row[4], row[5]) if row else None


async def _add(connection: Connection, person: Person, outside: Outside, origin: Origin) -> None:
    await connection.execute(
        "INSERT INTO ledger.sign_in (provider, subject, person_id, email) VALUES (%s, %s, %s, %s)",
        [outside.provider, outside.subject, person.id, outside.email],
    )
    await note(connection, origin, "sign_in.linked", text_of("user", person.id), provider=outside.provider)


def _own(person: Person, origin: Origin) -> Origin:
    return origin.by(text_of("user", person.id))

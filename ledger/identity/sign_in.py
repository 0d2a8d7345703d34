"""What people do with their accounts: register, sign in, change and reset passwords, prove an address, use a second factor."""

import uuid
from dataclasses import dataclass
from typing import Any

import psycopg

from ledger.audit_log import Origin, note
from ledger.db import Connection, Database
from ledger.errors import InvalidFields, InvalidRequest, NotFresh, SignInRefused, TotpRequired
from ledger.identity import mail_codes, totp
from ledger.identity.limits import Bucket, Limits
from ledger.identity.outbox import Outbox
from ledger.identity.passwords import Passwords, problems_of
from ledger.identity.people import EMAIL_TAKEN, ROLES, Person, name_key, post_welcome, problems_of_email, problems_of_name, register
from ledger.identity.sessions import Sessions, Tokens, close_all
from ledger.ids import text_of

HOUR_S = 3600.0
FRESH_S = 300
MAILS_PER_HOUR = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Gifts:
    """What a new account gets, in micro-credits and open jobs; the welcome waits for a proven address where it is set so."""

    welcome: int
    open_jobs: int
    is_welcome_delayed: bool = False


@dataclass(frozen=True, slots=True)
class _Known:
    """What sign-in reads of an account."""

    person: Person
    password_hash: str | None
    totp_secret: bytes | None
    totp_last_step: int | None


_KNOWN = (
    "SELECT id, username, role, is_operator, password_hash, CASE WHEN totp_confirmed_at IS NOT NULL THEN totp_secret END, totp_last_step "
    "FROM ledger.person WHERE blocked_at IS NULL AND "
)


def _known(row: tuple[Any, ...]) -> _Known:
    return _Known(Person(*row[:4]), row[4], bytes(row[5]) if row[5] is not None else None, row[6])


class SignIn:
    """The use cases of accounts. Every change is one transaction with its line in the audit log."""

    def __init__(
        self, database: Database, passwords: Passwords, sessions: Sessions, limits: Limits, outbox: Outbox, box: totp.TotpBox, gifts: Gifts,
        *, registers_per_hour: int,
    ) -> None:  # fmt: skip
        self._database = database
        self._passwords = passwords
        self._sessions = sessions
        self._limits = limits
        self._outbox = outbox
        self._box = box
        self._gifts = gifts
        self._registers_per_hour = registers_per_hour

    # --- accounts ------------------------------------------------------------------------------------------------------------------

    async def register(self, username: str, password: str, email: str | None, role: str, origin: Origin) -> Person:
        """Make an account.

        Raises:
            InvalidFields: A field is wrong, or the name is taken.
            RateLimited: Too many accounts come from this address.
            DatabaseUnavailable: The database does not answer; whether the account was made is unknown.
        """
        wrong = {
            "username": problems_of_name(username), "password": problems_of(password, username, email),
            "email": problems_of_email(email) if email else [], "role": [] if role in ROLES else [f'"{role[:60]}" is not a valid choice.'],
        }  # fmt: skip
        if errors := {name: texts for name, texts in wrong.items() if texts}:
            raise InvalidFields(errors)
        await self._limits.require_room("accounts per hour", Bucket(f"register:{origin.address}", self._registers_per_hour, HOUR_S))
        hashed = await self._passwords.hash(password)
        welcome = 0 if self._gifts.is_welcome_delayed else self._gifts.welcome

        async def work(connection: Connection) -> tuple[Person, str | None]:
            person = await register(
                connection, username, role=role, welcome=welcome, open_jobs=self._gifts.open_jobs, email=email, password_hash=hashed
            )
            id_ = text_of("user", person.id)
            await note(connection, origin.by(id_), "person.registered", id_)
            return person, await mail_codes.make_code(connection, person.id, "verify", email) if email else None

        person, code = await self._database.transact(work)
        if email and code:
            self._outbox.send(mail_codes.verification(email, username, code, self._outbox.url))
        return person

    async def change_email(self, person: Person, email: str, origin: Origin) -> None:
        """Set another address; it has to be proven again.

        Raises:
            InvalidFields: It is none.
        """
        if texts := problems_of_email(email):
            raise InvalidFields({"email": texts})

        async def work(connection: Connection) -> str:
            await connection.execute(
                "UPDATE ledger.person SET email = %(email)s, email_verified_at = CASE WHEN lower(email) = lower(%(email)s) THEN email_verified_at END "
                "WHERE id = %(id)s",
                {"email": email, "id": person.id},
            )
            await note(connection, origin, "person.email_changed", text_of("user", person.id))
            return await mail_codes.make_code(connection, person.id, "verify", email)

        code = await self._database.transact(work)
        self._outbox.send(mail_codes.verification(email, person.username, code, self._outbox.url))

    async def change_role(self, person: Person, role: str, origin: Origin) -> None:
        """Set what the console shows first."""
        if role not in ROLES:
            raise InvalidFields({"role": [f'"{role[:60]}" is not a valid choice.']})

        async def work(connection: Connection) -> None:
            await connection.execute("UPDATE ledger.person SET role = %s WHERE id = %s", [role, person.id])
            await note(connection, origin, "person.role_changed", text_of("user", person.id), role=role)

        await self._database.transact(work)

    async def verify_email(self, code: str, origin: Origin) -> None:
        """Accept that somebody reads the mail of an address.

        Raises:
            InvalidRequest: The code does not work, or another account has proven this address.
        """

        async def work(connection: Connection) -> bool:
            found = await mail_codes.use_code(connection, code, "verify")
            if found is None:
                return False
            id_, email = found
            await connection.execute(
                "UPDATE ledger.person SET email_verified_at = clock_timestamp() WHERE id = %s AND lower(email) = lower(%s)", [id_, email]
            )
            if self._gifts.is_welcome_delayed:
                await post_welcome(connection, id_, self._gifts.welcome)
            await note(connection, origin.by(text_of("user", id_)), "person.email_verified", text_of("user", id_))
            return True

        try:
            if not await self._database.transact(work):
                raise InvalidRequest("code", "This code does not work (any more). Ask for a new one.")
        except psycopg.errors.UniqueViolation:
            raise InvalidRequest("code", EMAIL_TAKEN) from None

    async def resend_verification(self, person: Person, origin: Origin) -> None:
        """Send the mail that proves the address once more."""
        await self._limits.require_room("mails per hour", Bucket(f"mail:{person.id}", MAILS_PER_HOUR, HOUR_S))

        async def work(connection: Connection) -> tuple[str, str] | None:
            cursor = await connection.execute(
                "SELECT email FROM ledger.person WHERE id = %s AND email IS NOT NULL AND email_verified_at IS NULL", [person.id]
            )
            row = await cursor.fetchone()
            return (row[0], await mail_codes.make_code(connection, person.id, "verify", row[0])) if row else None

        if made := await self._database.transact(work):
            self._outbox.send(mail_codes.verification(made[0], person.username, made[1], self._outbox.url))

    # --- signing in ----------------------------------------------------------------------------------------------------------------

    async def sign_in(self, username: str, password: str, code: str | None, origin: Origin) -> Tokens:
        """Sign somebody in.

        Raises:
            SignInRefused: No such account, or another password; both take the same time.
            TotpRequired: The second factor is missing, wrong or used.
            RateLimited: Too many failures.
            DatabaseUnavailable: The database does not answer.
        """
        subjects = (f"sign-in:{name_key(username)[:200]}", f"sign-in-from:{origin.address}")
        await self._limits.require_patience(*subjects)
        known = await self._find(username)
        if not await self._passwords.verify(known.password_hash if known else None, password) or known is None:
            await self._limits.note_failure(*subjects)
            raise SignInRefused
        try:
            tokens = await self._admit(known, password, code, origin)
        except TotpRequired:
            if code:
                await self._limits.note_failure(*subjects)
            raise
        await self._limits.forgive(subjects[0])
        return tokens

    async def _find(self, username: str) -> _Known | None:
        async def work(connection: Connection) -> _Known | None:
            cursor = await connection.execute(_KNOWN + "name_key = %s", [name_key(username)])
            row = await cursor.fetchone()
            return _known(row) if row else None

        return await self._database.run(work)

    async def _admit(self, known: _Known, password: str, code: str | None, origin: Origin) -> Tokens:
        person = known.person
        rehashed = await self._passwords.hash(password) if self._passwords.is_outdated(known.password_hash or "") else None
        own = origin.by(text_of("user", person.id))

        async def work(connection: Connection) -> Tokens:
            if known.totp_secret is not None:
                await self.use_totp(connection, person.id, code)
            if rehashed:
                await connection.execute("UPDATE ledger.person SET password_hash = %s WHERE id = %s", [rehashed, person.id])
            return await self._sessions.open(connection, person, own, "password")

        return await self._database.transact(work)

    # --- passwords -----------------------------------------------------------------------------------------------------------------

    async def change_password(self, person: Person, old: str, new: str, session: uuid.UUID | None, origin: Origin) -> None:
        """Set another password; all other sign-ins end.

        Raises:
            InvalidFields: The old one is wrong, or the new one is not good enough.
            RateLimited: Too many failures.
        """
        subject = f"sign-in:{name_key(person.username)[:200]}"
        await self._limits.require_patience(subject)
        known = await self._find(person.username)
        if known is None or not await self._passwords.verify(known.password_hash, old):
            await self._limits.note_failure(subject)
            raise InvalidFields({"old_password": ["This is not your password."]})
        await self._set_password(person, new, session, origin, "person.password_changed")

    async def _set_password(self, person: Person, new: str, kept: uuid.UUID | None, origin: Origin, action: str) -> None:
        hashed = await self._good_hash(person, new)

        async def work(connection: Connection) -> None:
            await self._write_password(connection, person.id, hashed)
            await note(connection, origin, action, text_of("user", person.id))
            await close_all(connection, person.id, but=kept)

        await self._database.transact(work)

    async def _good_hash(self, person: Person, new: str) -> str:
        if texts := problems_of(new, person.username, None):
            raise InvalidFields({"new_password": texts})
        return await self._passwords.hash(new)

    async def _write_password(self, connection: Connection, id_: uuid.UUID, hashed: str) -> None:
        await connection.execute(
            "UPDATE ledger.person SET password_hash = %s, password_changed_at = clock_timestamp() WHERE id = %s", [hashed, id_]
        )

    async def ask_for_reset(self, email: str, origin: Origin) -> None:
        """Mail a code for a new password to a proven address; whether there is one is told to its owner alone.

        Raises:
            RateLimited: Too many mails.
        """
        await self._limits.require_room(
            "mails per hour",
            Bucket(f"reset:{email.casefold()[:254]}", MAILS_PER_HOUR, HOUR_S),
            Bucket(f"reset-from:{origin.address}", 4 * MAILS_PER_HOUR, HOUR_S),
        )

        async def work(connection: Connection) -> tuple[str, str, str] | None:
            cursor = await connection.execute(
                "SELECT id, username, email FROM ledger.person WHERE lower(email) = lower(%s) AND email_verified_at IS NOT NULL AND blocked_at IS NULL",
                [email],
            )
            row = await cursor.fetchone()
            return (row[2], row[1], await mail_codes.make_code(connection, row[0], "reset", row[2])) if row else None

        if made := await self._database.transact(work):
            self._outbox.send(mail_codes.new_password(*made, self._outbox.url))

    async def reset_password(self, code: str, new: str, origin: Origin) -> None:
        """Set a new password with a code from a mail; every sign-in ends. A password that is refused does not use the code up.

        Raises:
            InvalidRequest: The code does not work.
            InvalidFields: The password is not good enough.
        """
        if texts := problems_of(new, "", None):
            raise InvalidFields({"new_password": texts})
        hashed = await self._passwords.hash(new)

        async def work(connection: Connection) -> bool:
            found = await mail_codes.use_code(connection, code, "reset")
            if found is None:
                return False
            id_ = found[0]
            await self._write_password(connection, id_, hashed)
            await note(connection, origin.by(text_of("user", id_)), "person.password_reset", text_of("user", id_))
            await close_all(connection, id_)
            return True

        if not await self._database.transact(work):
            raise InvalidRequest("code", "This code does not work (any more). Ask for a new one.")

    # --- the second factor ---------------------------------------------------------------------------------------------------------

    async def begin_totp(self, person: Person) -> tuple[str, str]:
        """Make a secret that counts from its first confirmed code on; answer it and its `otpauth://` address.

        Raises:
            InvalidRequest: The account has a second factor already.
        """
        secret = totp.new_secret()

        async def work(connection: Connection) -> int:
            cursor = await connection.execute(
                "UPDATE ledger.person SET totp_secret = %s, totp_last_step = NULL WHERE id = %s AND totp_confirmed_at IS NULL",
                [self._box.close(secret, person.id.bytes), person.id],
            )
            return cursor.rowcount

        if not await self._database.transact(work):
            raise InvalidRequest("", "This account has a second factor already. Remove it first.")
        return secret, totp.address_of(secret, person.username)

    async def confirm_totp(self, person: Person, code: str, origin: Origin) -> None:
        """Switch the second factor on.

        Raises:
            TotpRequired: The digits do not fit.
        """

        async def work(connection: Connection) -> None:
            await self.use_totp(connection, person.id, code)
            await connection.execute(
                "UPDATE ledger.person SET totp_confirmed_at = coalesce(totp_confirmed_at, clock_timestamp()) WHERE id = %s", [person.id]
            )
            await note(connection, origin, "totp.on", text_of("user", person.id))

        await self._database.transact(work)

    async def remove_totp(self, person: Person, code: str, origin: Origin) -> None:
        """Switch the second factor off.

        Raises:
            TotpRequired: The digits do not fit.
        """

        async def work(connection: Connection) -> None:
            await self.use_totp(connection, person.id, code)
            await connection.execute(
                "UPDATE ledger.person SET totp_secret = NULL, totp_confirmed_at = NULL, totp_last_step = NULL WHERE id = %s", [person.id]
            )
            await note(connection, origin, "totp.off", text_of("user", person.id))

        await self._database.transact(work)

    async def freshen(self, person: Person, session: uuid.UUID, code: str) -> None:
        """Note that the second factor was given just now.

        Raises:
            TotpRequired: The digits do not fit.
            RateLimited: Too many failures.
        """
        subject = f"totp:{person.id}"
        await self._limits.require_patience(subject)

        async def work(connection: Connection) -> None:
            await self.use_totp(connection, person.id, code)
            await connection.execute("UPDATE ledger.session SET fresh_at = clock_timestamp() WHERE id = %s", [session])

        try:
            await self._database.transact(work)
        except TotpRequired:
            await self._limits.note_failure(subject)
            raise

    async def require_fresh(self, person: uuid.UUID, session: uuid.UUID | None) -> None:
        """Refuse what moves money out when the account has a second factor and it was not given within `FRESH_S` in this sign-in.

        Raises:
            NotFresh: It was not, or the caller is a key.
            DatabaseUnavailable: The database does not answer.
        """

        async def query(connection: Connection) -> bool:
            cursor = await connection.execute(
                "SELECT p.totp_confirmed_at IS NULL OR EXISTS (SELECT FROM ledger.session s WHERE s.id = %s AND s.person_id = p.id "
                "AND s.fresh_at > clock_timestamp() - make_interval(secs => %s)) FROM ledger.person p WHERE p.id = %s",
                [session, FRESH_S, person],
            )
            row = await cursor.fetchone()
            return bool(row and row[0])

        if not await self._database.run(query):
            raise NotFresh

    async def use_totp(self, connection: Connection, person: uuid.UUID, code: str | None) -> None:
        """Use six digits up; under the person's row, so that they are good once."""
        cursor = await connection.execute("SELECT totp_secret, totp_last_step FROM ledger.person WHERE id = %s FOR NO KEY UPDATE", [person])
        row = await cursor.fetchone()
        secret = self._box.open(bytes(row[0]), person.bytes) if row and row[0] is not None else None
        step = totp.step_of(secret, code or "", row[1]) if row and secret else None
        if step is None:
            raise TotpRequired
        await connection.execute("UPDATE ledger.person SET totp_last_step = %s WHERE id = %s", [step, person])

"""Accounts of people: made with their welcome credits, all in one go or not at all; found, changed, blocked."""

import re
import unicodedata
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from ledger.db import Connection
from ledger.errors import InvalidFields
from ledger.ids import new_uuid7
from ledger.money import accounts
from ledger.money.posting import Kind, Post, Status, apply

USERNAME = re.compile(r"[\w.@+-]{1,150}")
EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f.]+(\.[^@\s\x00-\x1f.]+)+")
MAX_EMAIL = 254
ROLES = ("USER", "PROVIDER")
NAME_TAKEN = "A user with that username already exists."
EMAIL_TAKEN = "A user with that email already exists."
# What a signed-in person may do. Keys can be given all of it but what concerns the account itself.
ALL_SCOPES = ("jobs:read", "jobs:write", "wallet:read", "payments:write", "keys:write", "nodes:read", "nodes:write")
ACCOUNT_SCOPE = "account:write"
OPERATOR_SCOPE = "operator"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account."""

    id: uuid.UUID
    username: str
    role: str = "USER"
    is_operator: bool = False

    @property
    def scopes(self) -> tuple[str, ...]:
        """What they may do when they have signed in."""
        return (*ALL_SCOPES, ACCOUNT_SCOPE, OPERATOR_SCOPE) if self.is_operator else (*ALL_SCOPES, ACCOUNT_SCOPE)


@dataclass(frozen=True, slots=True)
class Profile:
    """An account as its owner sees it."""

    person: Person
    email: str | None
    is_email_verified: bool
    created_at: datetime
    has_password: bool
    has_totp: bool


def name_key(username: str) -> str:
    """Tell what two names are compared by: NFKC, without regard to case."""
    return unicodedata.normalize("NFKC", username).casefold()


def problems_of_name(username: str) -> list[str]:
    """List what is wrong with a name."""
    normal = unicodedata.normalize("NFKC", username)
    if not username:
        return ["This field may not be blank."]
    if USERNAME.fullmatch(username) and USERNAME.fullmatch(normal):
        return []
    return ["Enter a valid username: 1 to 150 letters, digits and @ . + - _"]


def problems_of_email(email: str) -> list[str]:
    """List what is wrong with an address."""
    return [] if len(email) <= MAX_EMAIL and EMAIL.fullmatch(email) else ["Enter a valid email address."]


async def find_person(connection: Connection, username: str) -> Person | None:
    """Look a person up by name, without regard to case."""
    return await _find(connection, "name_key = %s", name_key(username))


async def get_person(connection: Connection, id_: uuid.UUID) -> Person | None:
    """Look a person up by id."""
    return await _find(connection, "id = %s", id_)


async def _find(connection: Connection, condition: LiteralString, value: Any) -> Person | None:
    cursor = await connection.execute(f"SELECT id, username, role, is_operator FROM ledger.person WHERE {condition}", [value])  # noqa: S608
    row = await cursor.fetchone()
    return Person(*row) if row else None


async def get_profile(connection: Connection, id_: uuid.UUID) -> Profile:
    """Read a person's profile."""
    cursor = await connection.execute(
        "SELECT id, username, role, is_operator, email, email_verified_at IS NOT NULL, created_at, password_hash IS NOT NULL, "
        "totp_confirmed_at IS NOT NULL FROM ledger.person WHERE id = %s",
        [id_],
    )
    row = await cursor.fetchone()
    assert row is not None
    return Profile(Person(*row[:4]), *row[4:])


async def register(
    connection: Connection,
    username: str,
    *,
    role: str,
    welcome: int,
    open_jobs: int,
    email: str | None = None,
    is_email_verified: bool = False,
    password_hash: str | None = None,
) -> Person:
    """Make a person with welcome credits (micros) and room for open jobs, in one transaction.

    Both gifts carry ids that follow from the person, so that a repeat changes nothing.

    Raises:
        InvalidFields: The name is taken.
    """
    person = Person(new_uuid7(), username, role)
    async with connection.transaction():
        cursor = await connection.execute(
            "INSERT INTO ledger.person (id, username, name_key, role, email, email_verified_at, password_hash) "
            "VALUES (%s, %s, %s, %s, %s, CASE WHEN %s THEN clock_timestamp() END, %s) ON CONFLICT (name_key) DO NOTHING",
            [person.id, username, name_key(username), role, email, is_email_verified, password_hash],
        )
        if not cursor.rowcount:
            raise InvalidFields({"username": [NAME_TAKEN]})
        ids = await accounts.open_accounts(
            connection,
            [
                accounts.PROMOTIONS, accounts.FEES, accounts.SLOT_ISSUER, accounts.promo(person.id), accounts.paid(person.id),
                accounts.earned(person.id), accounts.slots(person.id),
            ],
        )  # fmt: skip
        gifts = [
            Post(
                id=uuid.uuid5(person.id, "slots"), kind=Kind.ALLOWANCE, meta={"reason": "open jobs"},
                legs=((ids[accounts.SLOT_ISSUER], -open_jobs), (ids[accounts.slots(person.id)], open_jobs)),
            )
        ]  # fmt: skip
        if welcome:
            gifts.append(_welcome(person.id, welcome, ids))
        if any(status is not Status.OK for status in await apply(connection, gifts)):
            raise RuntimeError(f"the welcome credits of {username} could not be posted")
    return person


def _welcome(person: uuid.UUID, amount: int, ids: dict[str, int]) -> Post:
    return Post(
        id=uuid.uuid5(person, "welcome"), kind=Kind.WELCOME, meta={"user": str(person)},
        legs=((ids[accounts.PROMOTIONS], -amount), (ids[accounts.promo(person)], amount)),
    )  # fmt: skip


async def post_welcome(connection: Connection, person: uuid.UUID, amount: int) -> None:
    """Give the welcome credits later, in the caller's transaction; again is harmless."""
    if amount:
        ids = await accounts.open_accounts(connection, [accounts.PROMOTIONS, accounts.promo(person)])
        await apply(connection, [_welcome(person, amount, ids)])

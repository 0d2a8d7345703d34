"""Accounts of people: made with their welcome credits, all in one go or not at all."""

import uuid
from dataclasses import dataclass

from ledger.db import Connection
from ledger.ids import new_uuid7
from ledger.money import accounts
from ledger.money.posting import Kind, Post, Status, apply


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account."""

    id: uuid.UUID
    username: str


async def find_person(connection: Connection, username: str) -> Person | None:
    """Look a person up by name, without regard to case."""
    cursor = await connection.execute("SELECT id, username FROM ledger.person WHERE lower(username) = lower(%s)", [username])
    row = await cursor.fetchone()
    return Person(row[0], row[1]) if row else None


async def register(connection: Connection, username: str, *, role: str, welcome: int, open_jobs: int) -> Person:
    """Make a person with welcome credits (micros) and room for open jobs, in one transaction.

    Both gifts carry ids that follow from the person, so that a repeat changes nothing.
    """
    person = Person(new_uuid7(), username)
    async with connection.transaction():
        await connection.execute("INSERT INTO ledger.person (id, username, name_key, role) VALUES (%s, %s, lower(%s), %s)", [person.id, username, username, role])
        ids = await accounts.open_accounts(
            connection,
            [
                accounts.PROMOTIONS, accounts.FEES, accounts.SLOT_ISSUER, accounts.promo(person.id), accounts.paid(person.id),
                accounts.pending(person.id), accounts.earned(person.id), accounts.slots(person.id),
            ],
        )  # fmt: skip
        gifts = [
            Post(
                id=uuid.uuid5(person.id, "slots"), kind=Kind.ALLOWANCE, meta={"reason": "open jobs"},
                legs=((ids[accounts.SLOT_ISSUER], -open_jobs), (ids[accounts.slots(person.id)], open_jobs)),
            )
        ]  # fmt: skip
        if welcome:
            gifts.append(
                Post(
                    id=uuid.uuid5(person.id, "welcome"), kind=Kind.WELCOME, meta={"user": str(person.id)},
                    legs=((ids[accounts.PROMOTIONS], -welcome), (ids[accounts.promo(person.id)], welcome)),
                )
            )  # fmt: skip
        if any(status is not Status.OK for status in await apply(connection, gifts)):
            raise RuntimeError(f"the welcome credits of {username} could not be posted")
    return person

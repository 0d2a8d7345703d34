"""What an account held at a past moment. Entries of an account are in the order of time, so a binary search over their numbers finds it."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from ledger.db import Connection, Database
from ledger.money import accounts


@dataclass(frozen=True, slots=True)
class PastBalance:
    """What a person had, in micro-credits. What was reserved then is not kept: this is the sum of the entries."""

    promotional: int
    paid: int
    pending: int
    earned: int


async def balance_at(database: Database, person: uuid.UUID, at: datetime) -> PastBalance:
    """Tell what a person had at a moment.

    Raises:
        DatabaseUnavailable: The database does not answer.
    """

    async def query(connection: Connection) -> PastBalance:
        promo, paid, earned, *pendings = [
            await _account_at(connection, address, at)
            for address in (
                accounts.promo(person), accounts.paid(person), accounts.earned(person), *await accounts.open_pendings(connection, person)
            )
        ]  # fmt: skip
        return PastBalance(promo, paid, sum(pendings), earned)

    return await database.run(query)


async def _account_at(connection: Connection, address: str, at: datetime) -> int:
    cursor = await connection.execute("SELECT id, seq FROM ledger.account WHERE address = %s", [address])
    row = await cursor.fetchone()
    if row is None:
        return 0
    account, high = int(row[0]), int(row[1])
    low, balance = 0, 0
    while low < high:
        middle = (low + high + 1) // 2
        cursor = await connection.execute(
            "SELECT t.at <= %s, e.balance FROM ledger.entry e JOIN ledger.txn t ON t.id = e.txn_id WHERE e.account_id = %s AND e.seq = %s",
            [at, account, middle],
        )
        found = await cursor.fetchone()
        assert found is not None
        if found[0]:
            low, balance = middle, int(found[1])
        else:
            high = middle - 1
    return balance

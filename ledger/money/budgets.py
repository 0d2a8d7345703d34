"""Budgets of API keys, as accounts: `budget:<key>:total`, `:2026-11`, `:2026-11-24`.

An account holds what its key may still spend in its period; a hold reserves of it in the same call that reserves the money, so that no
number of requests at once can spend more. It is filled when the period's first hold comes, from the key's row as it is then, by a
transaction whose id follows from the address: once, however many ask.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from ledger.db import Connection, Database
from ledger.money import accounts
from ledger.money.posting import Kind, Post, Status, apply

Period = Literal["day", "month", "total"]
PERIODS: tuple[Period, ...] = ("day", "month", "total")
KEPT_FILLED = 50_000
CHANGE_TRIES = 5
_NAMESPACE = uuid.UUID("6f1d1a52-7e0c-5d0e-9a39-5f5b8f0f6d11")


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget of a key in one period."""

    key: str
    period: Period
    address: str


def address_of(key: str, period: Period, now: datetime) -> str:
    """Name the account of a key's budget; days and months are UTC's."""
    names = {"day": f"{now.astimezone(UTC):%Y-%m-%d}", "month": f"{now.astimezone(UTC):%Y-%m}", "total": "total"}
    return f"budget:{key}:{names[period]}"


def budgets_of(key: str, limits: Mapping[Period, int | None], now: datetime) -> tuple[Budget, ...]:
    """List the budgets that bind a key now."""
    return tuple(Budget(key, period, address_of(key, period, now)) for period in PERIODS if limits.get(period) is not None)


class Budgets:
    """Fills budgets, reads what is left of them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._filled: set[str] = set()

    async def fill(self, wanted: Iterable[Budget]) -> None:
        """See to it that these budgets are filled.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        missing = sorted({budget for budget in wanted if budget.address not in self._filled}, key=lambda budget: budget.address)
        if not missing:
            return

        async def work(connection: Connection) -> None:
            async with connection.transaction():
                for budget in missing:
                    await _fill(connection, budget)

        await self._database.run(work)
        if len(self._filled) > KEPT_FILLED:
            self._filled.clear()
        self._filled.update(budget.address for budget in missing)

    async def left(self, budgets: Sequence[Budget]) -> dict[str, int]:
        """Tell what is left of budgets, in micro-credits, by address.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """

        async def query(connection: Connection) -> dict[str, int]:
            cursor = await connection.execute(
                "SELECT address, posted - held FROM ledger.account WHERE address = ANY (%s)", [[budget.address for budget in budgets]]
            )
            return {str(row[0]): int(row[1]) for row in await cursor.fetchall()}

        return await self._database.run(query) if budgets else {}


async def _fill(connection: Connection, budget: Budget) -> None:
    """Fill one budget from the key's row, which cannot change until this transaction ends."""
    cursor = await connection.execute(
        "SELECT budget_day, budget_month, budget_total FROM ledger.api_key WHERE id = %s FOR SHARE", [budget.key]
    )
    row = await cursor.fetchone()
    amount = row[PERIODS.index(budget.period)] if row else None
    ids = await accounts.open_accounts(connection, [accounts.ALLOWANCES, budget.address])
    if amount:  # a repeat answers `exists`, or `conflict` when the budget was changed meanwhile: it was filled in both cases
        await apply(connection, [_allowance(uuid.uuid5(_NAMESPACE, budget.address), ids[budget.address], ids[accounts.ALLOWANCES], amount)])


def _allowance(id_: uuid.UUID, account: int, issuer: int, amount: int) -> Post:
    return Post(id=id_, kind=Kind.ALLOWANCE, legs=((issuer, -amount), (account, amount)), meta={"reason": "budget"})


async def change(connection: Connection, key: str, amounts: Mapping[Period, int | None], now: datetime) -> None:
    """Bring the budgets of this day, this month and in all to new amounts, in the transaction that changes the key's row.

    What was spent stays spent; a budget below it leaves nothing. Budgets that no hold has met yet are filled when one does.
    """
    for period, amount in amounts.items():
        address = address_of(key, period, now)
        cursor = await connection.execute("SELECT id FROM ledger.account WHERE address = %s", [address])
        row = await cursor.fetchone()
        if row is not None and amount is not None:
            await _bring_to(connection, address, int(row[0]), amount)


async def _bring_to(connection: Connection, address: str, account: int, amount: int) -> None:
    ids = await accounts.open_accounts(connection, [accounts.ALLOWANCES, address])
    first = uuid.uuid5(_NAMESPACE, address)
    for _ in range(CHANGE_TRIES):
        cursor = await connection.execute(
            "SELECT coalesce((SELECT sum(e.amount) FROM ledger.entry e JOIN ledger.txn t ON t.id = e.txn_id WHERE e.account_id = a.id AND t.kind = %s), 0), "
            "a.posted - a.held, EXISTS (SELECT FROM ledger.txn WHERE id = %s) FROM ledger.account a WHERE a.id = %s",
            [int(Kind.ALLOWANCE), first, account],
        )
        row = await cursor.fetchone()
        assert row is not None
        given, free, is_filled = int(row[0]), int(row[1]), bool(row[2])
        step = max(amount - given, -free)
        if not step:
            return
        id_ = uuid.uuid4() if is_filled else first
        if await apply(connection, [_allowance(id_, account, ids[accounts.ALLOWANCES], step)]) == [Status.OK]:
            return

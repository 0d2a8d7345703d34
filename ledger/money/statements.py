"""What people read of the books: balances and entries by page."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.amounts import credits_text
from ledger.db import Connection, Database
from ledger.ids import text_of
from ledger.money import accounts
from ledger.money.posting import Kind

KINDS = {
    Kind.WELCOME: "welcome",
    Kind.CAPTURE: "job_charge",
    Kind.DEPOSIT: "deposit",
    Kind.WITHDRAWAL: "withdrawal",
    Kind.REFUND: "refund",
    Kind.ADJUSTMENT: "adjustment",
    Kind.TRANSFER: "adjustment",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """One person's money at one moment, in micro-credits: available + held = total."""

    available: int
    held: int
    withdrawable: int

    @property
    def total(self) -> int:
        """All that is there, reserved or not."""
        return self.available + self.held


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenHold:
    """Money reserved for a job."""

    job: str
    amount: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One entry on one of a person's accounts."""

    txn: uuid.UUID
    at: datetime
    amount: int
    balance_after: int
    kind: str
    description: str
    job: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """Balance, open holds, one page of entries, newest first; `next_before` continues it."""

    balance: Balance
    holds: tuple[OpenHold, ...]
    log: tuple[LogEntry, ...]
    next_before: tuple[datetime, uuid.UUID] | None


async def wallet(database: Database, person: uuid.UUID, *, limit: int, before: tuple[datetime, uuid.UUID] | None) -> Wallet:
    """Read a person's wallet on one snapshot.

    Raises:
        DatabaseUnavailable: The database does not answer.
    """

    async def query(connection: Connection) -> Wallet:
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            balance = await _balance(connection, person)
            holds = await _open_holds(connection, person)
            log = await _log(connection, person, limit + 1, before)
        more = log[limit - 1] if len(log) > limit else None
        return Wallet(balance=balance, holds=holds, log=tuple(log[:limit]), next_before=(more.at, more.txn) if more else None)

    return await database.run(query)


def _own(person: uuid.UUID) -> list[str]:
    return [accounts.promo(person), accounts.paid(person), accounts.pending(person), accounts.earned(person)]


async def _balance(connection: Connection, person: uuid.UUID) -> Balance:
    cursor = await connection.execute("SELECT address, posted, held FROM ledger.account WHERE address = ANY (%s)", [_own(person)])
    found = {address: (posted, held) for address, posted, held in await cursor.fetchall()}
    pockets = [found.get(address, (0, 0)) for address in (accounts.promo(person), accounts.paid(person))]
    posted, held = sum(pocket[0] for pocket in pockets), sum(pocket[1] for pocket in pockets)
    earned, earned_held = found.get(accounts.earned(person), (0, 0))
    return Balance(available=posted - held, held=held, withdrawable=earned - earned_held)


async def _open_holds(connection: Connection, person: uuid.UUID) -> tuple[OpenHold, ...]:
    # One place of the person's open jobs is part of every hold: the slots account leads to them without a scan of strangers' holds.
    cursor = await connection.execute(
        "SELECT h.id, h.amounts[1] + h.amounts[2], h.at FROM ledger.hold h WHERE h.meta->>'user' = %s ORDER BY h.at DESC LIMIT 100",
        [str(person)],
    )
    return tuple(OpenHold(job=text_of("job", row[0]), amount=row[1], at=row[2]) for row in await cursor.fetchall())


async def _log(connection: Connection, person: uuid.UUID, limit: int, before: tuple[datetime, uuid.UUID] | None) -> list[LogEntry]:
    at, txn = before or (None, None)
    cursor = await connection.execute(
        "SELECT t.id, t.at, sum(e.amount)::bigint, max(e.balance), t.kind, t.meta FROM ledger.entry e JOIN ledger.txn t ON t.id = e.txn_id "
        "WHERE e.account_id IN (SELECT id FROM ledger.account WHERE address = ANY (%(own)s)) "
        "AND (%(at)s::timestamptz IS NULL OR (t.at, t.id) < (%(at)s::timestamptz, %(txn)s::uuid)) "
        "GROUP BY t.id, t.at, t.kind, t.meta ORDER BY t.at DESC, t.id DESC LIMIT %(limit)s",
        {"own": _own(person), "at": at, "txn": txn, "limit": limit},
    )
    return [
        LogEntry(txn=row[0], at=row[1], amount=row[2], balance_after=row[3], **_described(row[0], Kind(row[4]), row[2], row[5] or {}))
        for row in await cursor.fetchall()
    ]


def _described(txn: uuid.UUID, kind: Kind, amount: int, meta: dict[str, Any]) -> dict[str, Any]:
    if kind is not Kind.CAPTURE:
        name = KINDS.get(kind, "adjustment")
        return {"kind": name, "description": "Welcome credits" if kind is Kind.WELCOME else name.capitalize(), "job": None}
    job = text_of("job", txn)
    what = "Payment" if amount < 0 else "Earnings"
    return {"kind": "job_charge" if amount < 0 else "job_earning", "description": f"{what} for job {job} ({meta.get('model')})", "job": job}


def log_row(entry: LogEntry, username: str) -> dict[str, Any]:
    """Write an entry as the wallet's API shows it."""
    return {
        "id": text_of("txn", entry.txn),
        "amount": credits_text(entry.amount),
        "description": entry.description,
        "created_at": entry.at.isoformat(),
        "user": username,
        "kind": entry.kind,
        "job_id": entry.job,
        "balance_after": credits_text(entry.balance_after),
    }

"""What people read of the books: balances, open holds, and entries by page."""

import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from ledger.db import Connection, Database
from ledger.money import accounts
from ledger.money.posting import Kind
from ledger.money.requests import job_of

MAX_LEGS = 2  # how often one transaction touches one account, as a rule: more only costs another look
MAX_LOOK = 20_000  # entries per account that one page may look through for its kind
NEWEST = 2**63 - 1

# What rows of the wallet are called (seed S27). A capture is a charge or an earning by its sign.
WORDS = {
    Kind.WELCOME: "welcome",
    Kind.DEPOSIT: "deposit",
    Kind.WITHDRAWAL: "withdrawal",
    Kind.WITHDRAWAL_RETURNED: "withdrawal_returned",
    Kind.REFUND: "refund",
    Kind.ADJUSTMENT: "adjustment",
    Kind.TRANSFER: "adjustment",
    Kind.FORFEITURE: "adjustment",
    Kind.FORFEITURE_RETURNED: "adjustment",
}
SENTENCES = {
    Kind.WELCOME: "Welcome credits",
    Kind.FORFEITURE: "Forfeited earnings of a banned node",
    Kind.FORFEITURE_RETURNED: "Earnings given back after an appeal",
}
KINDS = ("welcome", "deposit", "job_charge", "job_earning", "fee", "withdrawal", "withdrawal_returned", "refund", "adjustment")


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
class HeldForJob:
    """Money reserved for a job."""

    job: str
    amount: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """What one transaction did to a person. `balance_after`: their credits after it; for earnings, their earnings after it."""

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
    holds: tuple[HeldForJob, ...]
    log: tuple[LogEntry, ...]
    next_before: "Position | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a page ended: below these numbers of each own account, after this transaction of the newest moment there.

    An account that was opened since has nothing below.
    """

    seqs: tuple[int, ...] = ()
    after: uuid.UUID | None = None

    def below(self, accounts: int) -> list[int]:
        """Tell below which number each of so many accounts is read."""
        return [*self.seqs[:accounts], *[0 if self.seqs else NEWEST] * (accounts - len(self.seqs))]


START = Position()


@dataclass(frozen=True, slots=True)
class _Row:
    """One entry joined to its transaction; `account` is its place in `_own`."""

    account: int
    seq: int
    amount: int
    balance: int
    txn: uuid.UUID
    at: datetime
    kind: Kind
    meta: dict[str, Any]


PROMO, PAID, EARNED = range(3)  # places in `_own`; earnings before their delay come after them
POCKETS = frozenset({PROMO, PAID})


async def _own(connection: Connection, person: uuid.UUID) -> list[str]:
    """Name a person's accounts. A new one goes to the end, so that places stay what they were while somebody turns pages."""
    return [accounts.promo(person), accounts.paid(person), accounts.earned(person), *await accounts.open_pendings(connection, person)]


async def wallet(database: Database, person: uuid.UUID, *, limit: int, before: Position = START, kind: str | None = None) -> Wallet:
    """Read a person's wallet on one snapshot; `kind` keeps one kind of rows.

    Raises:
        DatabaseUnavailable: The database does not answer.
    """

    async def query(connection: Connection) -> Wallet:
        async with connection.transaction():
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            balance = await _balance(connection, person)
            holds = await _open_holds(connection, person)
            log, next_before = await _log(connection, person, limit, before, kind)
        return Wallet(balance=balance, holds=holds, log=log, next_before=next_before)

    return await database.run(query)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the log, newest first; `next_before` continues it."""

    log: tuple[LogEntry, ...]
    next_before: Position | None


async def log_page(database: Database, person: uuid.UUID, *, limit: int, before: Position = START, kind: str | None = None) -> Page:
    """Read one page of the log alone.

    Raises:
        DatabaseUnavailable: The database does not answer.
    """

    async def query(connection: Connection) -> Page:
        return Page(*await _log(connection, person, limit, before, kind))

    return await database.run(query)


async def withdrawable(database: Database, person: uuid.UUID) -> int:
    """Tell what a person may withdraw, in micro-credits.

    Raises:
        DatabaseUnavailable: The database does not answer.
    """
    return (await database.run(lambda connection: _balance(connection, person))).withdrawable


async def _balance(connection: Connection, person: uuid.UUID) -> Balance:
    own = [accounts.promo(person), accounts.paid(person), accounts.earned(person)]
    cursor = await connection.execute("SELECT address, posted, held FROM ledger.account WHERE address = ANY (%s)", [own])
    found = {address: (posted, held) for address, posted, held in await cursor.fetchall()}
    promo, paid, earned = (found.get(address, (0, 0)) for address in own)
    held = promo[1] + paid[1]
    return Balance(available=promo[0] + paid[0] - held, held=held, withdrawable=earned[0] - earned[1])


async def _open_holds(connection: Connection, person: uuid.UUID) -> tuple[HeldForJob, ...]:
    # Reads all open holds: there are as many as jobs in flight, and an index on the accounts would cost every job more than this look.
    cursor = await connection.execute(
        "SELECT id, amounts[1] + amounts[2], at FROM ledger.hold "
        "WHERE (SELECT id FROM ledger.account WHERE address = %s) = ANY (accounts) ORDER BY at DESC, id DESC LIMIT 100",
        [accounts.slots(person)],
    )
    return tuple(HeldForJob(job=job_of(row[0]), amount=row[1], at=row[2]) for row in await cursor.fetchall())


async def _log(
    connection: Connection, person: uuid.UUID, limit: int, before: Position, kind: str | None
) -> tuple[tuple[LogEntry, ...], Position | None]:
    """Read one page. Each account is read backwards by its own numbers, so that a page costs the same however long the history is."""
    size = (limit + 1) * MAX_LEGS
    own = await _own(connection, person)
    while True:
        rows = await _newest(connection, own, size, before)
        page = _page_of(rows, len(own), size, limit, before, kind)
        if page is not None:
            return page
        size *= 4


async def _newest(connection: Connection, own: list[str], size: int, before: Position) -> list[_Row]:
    cursor = await connection.execute(
        "SELECT o.n - 1, e.seq, e.amount, e.balance, e.txn_id, t.at, t.kind, coalesce(t.meta, '{}') "
        "FROM unnest(%s::text[], %s::bigint[]) WITH ORDINALITY AS o(address, below, n) JOIN ledger.account a ON a.address = o.address "
        "CROSS JOIN LATERAL (SELECT * FROM ledger.entry WHERE account_id = a.id AND seq < o.below ORDER BY seq DESC LIMIT %s) e "
        # one look by key per entry, whatever the statistics say: a hash of all transactions costs the same for a page as for a history
        "CROSS JOIN LATERAL (SELECT at, kind, meta FROM ledger.txn WHERE id = e.txn_id LIMIT 1) t ORDER BY t.at DESC, e.txn_id DESC, e.seq DESC",
        [own, before.below(len(own)), size],
    )
    return [
        _Row(account, seq, amount, balance, txn, at, Kind(kind), meta)
        for account, seq, amount, balance, txn, at, kind, meta in await cursor.fetchall()
    ]


def _page_of(
    rows: list[_Row], count: int, size: int, limit: int, before: Position, kind: str | None
) -> tuple[tuple[LogEntry, ...], Position | None] | None:
    """Put entries of `count` accounts, newest first, into at most `limit` lines of the log; None: more entries must be looked at.

    Transactions of one batch share their time, and accounts may number them differently; that is why a page that ends inside such a
    moment begins the next one at its top and skips what was shown.
    """
    horizon = _horizon(rows, size)
    page: list[LogEntry] = []
    seen: tuple[datetime, uuid.UUID] | None = None
    earnings = frozenset(range(count)) - POCKETS
    running = {group: sum(_newest_balance(rows, account) for account in group) for group in (POCKETS, earnings)}
    for (at, txn), together in groupby(rows, key=lambda row: (row.at, row.txn)):
        if horizon is not None and at <= horizon:
            break
        parts = list(together)
        entry = _entry_of(parts, running[POCKETS], running[earnings])
        for group in running:
            running[group] -= sum(part.amount for part in parts if part.account in group)
        if before.after is not None and at == rows[0].at and txn >= before.after:
            continue
        if entry.amount and (kind is None or entry.kind == kind):  # what only moves inside, as a release of earnings, is no line
            if len(page) == limit:
                return tuple(page), _position_after(rows, count, seen)
            page.append(entry)
        seen = at, txn
    if horizon is None:
        return tuple(page), None
    return (tuple(page), _position_after(rows, count, seen)) if size >= MAX_LOOK and seen else None


def _horizon(rows: list[_Row], size: int) -> datetime | None:
    """Tell the moment down to which the rows may be incomplete: the oldest of an account that has more than were read."""
    oldest = Counter(row.account for row in rows)
    return max((min(row.at for row in rows if row.account == account) for account, count in oldest.items() if count == size), default=None)


def _newest_balance(rows: list[_Row], account: int) -> int:
    return max(((row.seq, row.balance) for row in rows if row.account == account), default=(0, 0))[1]


def _position_after(rows: list[_Row], count: int, seen: tuple[datetime, uuid.UUID] | None) -> Position | None:
    if seen is None:
        return None
    at, txn = seen
    return Position(
        seqs=tuple(max((row.seq for row in rows if row.account == n and row.at <= at), default=0) + 1 for n in range(count)), after=txn
    )


def _entry_of(parts: list[_Row], in_pockets: int, in_earnings: int) -> LogEntry:
    first = parts[0]
    amount = sum(part.amount for part in parts)
    is_spendable = any(part.account in POCKETS for part in parts)
    word, description, job = _described(first.txn, first.kind, amount, first.meta)
    return LogEntry(
        txn=first.txn, at=first.at, amount=amount, balance_after=in_pockets if is_spendable else in_earnings, kind=word,
        description=description, job=job,
    )  # fmt: skip


def _described(txn: uuid.UUID, kind: Kind, amount: int, meta: dict[str, Any]) -> tuple[str, str, str | None]:
    """Name a transaction: its kind, a sentence, the job if it was one."""
    if kind is Kind.CAPTURE:
        job = job_of(txn)
        word, what = ("job_earning", "Earnings") if amount > 0 else ("job_charge", "Payment")
        return word, f"{what} for job {job} ({meta.get('model')})", job
    word = WORDS.get(kind, "adjustment")
    return word, _sentence(kind, word, meta), None


def _sentence(kind: Kind, word: str, meta: dict[str, Any]) -> str:
    if kind in SENTENCES:
        return SENTENCES[kind]
    if kind is Kind.DEPOSIT and "gateway" in meta:
        return f"Deposit via {meta['gateway']}"
    return word.replace("_", " ").capitalize()

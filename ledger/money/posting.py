"""The only code that writes money: packs operations into batches and hands them to `ledger.apply`.

Natural batching: while one batch is in the database the next one gathers, so that 64 callers share one commit and a lonely caller waits
for nobody. An operation's id is made before it is sent; a batch whose outcome is unknown is sent again as it is.
"""

import asyncio
import hashlib
import json
import re
import uuid
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

import psycopg

from ledger.db import Connection, DatabaseUnavailable, bounded, connect
from ledger.errors import LedgerUnavailable

MAX_BATCH = 256
MAX_WAITING_BATCHES = 8
ANSWER_LIMIT_S = 3.0  # from an operation's arrival to its answer; past it the outcome is unknown
LAST_TRY_S = 0.25  # what a batch gets at least, however late it is
PAUSES_S = (0.05, 0.5)  # between tries to reconnect: the first, and the longest
AGAIN_LIMIT = 2  # repeats of an operation that the kernel asks to be sent once more
POCKET = None


class Status(StrEnum):
    """What `ledger.apply` answers per operation."""

    OK = "ok"
    EXISTS = "exists"
    CONFLICT = "conflict"
    AGAIN = "again"
    FUNDS = "funds"
    LIMIT = "limit"
    NO_HOLD = "no_hold"
    OVER_HOLD = "over_hold"
    UNBALANCED = "unbalanced"
    NO_ACCOUNT = "no_account"
    NO_TXN = "no_txn"
    INVALID = "invalid"


class Kind(IntEnum):
    """What a transaction is, as stored."""

    WELCOME = 1
    CAPTURE = 2
    VOID = 3
    EXPIRE = 4
    DEPOSIT = 5
    WITHDRAWAL = 6
    REFUND = 7
    ADJUSTMENT = 8
    TRANSFER = 9
    ALLOWANCE = 10
    VOID_RETRYABLE = 11
    EARNINGS_RELEASE = 12
    GOODWILL = 13
    WITHDRAWAL_RETURNED = 14
    WITHDRAWAL_PAID = 15
    FORFEITURE = 16
    FORFEITURE_RETURNED = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Reserve `amount` micro-credits. A line is (account, amount that must fit whole) or (account, POCKET).

    `compared_by`: what a repeat is compared by, when not by amount, lines and meta (a repeat after a change of prices is still a repeat).
    """

    id: uuid.UUID
    amount: int
    ttl_s: int
    lines: tuple[tuple[int, int | None], ...]
    meta: dict[str, Any]
    compared_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """Move money by legs (account, signed micro-credits) that sum to zero per unit; `resolves_hold` releases the hold of this id."""

    id: uuid.UUID
    kind: Kind
    legs: tuple[tuple[int, int], ...] = ()
    resolves_hold: bool = False
    reverses: uuid.UUID | None = None
    meta: dict[str, Any] | None = None


Operation = Hold | Post


# --- packing (pure) -----------------------------------------------------------------------------------------------------------------
#
# Arrays travel as PostgreSQL's array literals: joining strings costs a tenth of what a generic array encoder does. What one operation
# contributes is written when it arrives, while another batch is in the database.


class Unpackable(ValueError):
    """The operation holds something that the database has no form for: the answer is `invalid`, and nobody else is hurt."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One operation as written into the arrays: its fields, then its lines or legs."""

    id: uuid.UUID
    is_hold: bool
    fields: tuple[str, ...]
    accounts: str
    amounts: str
    size: int


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_INT32 = 2**31 - 1


def digest_of(said: str) -> int:
    """Digest what an operation says into a signed 64-bit number. The text's form is stored money's identity: it never changes."""
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), signed=True)


def text_of_meta(meta: dict[str, Any] | None) -> str | None:
    """Write meta in its one canonical form.

    Raises:
        Unpackable: It is not JSON, or holds a character that PostgreSQL's JSON cannot.
    """
    if meta is None:
        return None
    try:
        text = _CANONICAL.encode(meta)
        text.encode()
    except (TypeError, ValueError) as wrong:
        raise Unpackable(str(wrong)) from wrong
    if "\\u0000" in text and _NUL.search(text):
        raise Unpackable("a NUL character")
    return text


def parcel_of(operation: Operation) -> Parcel:
    """Write an operation down as it will stand in the arrays.

    Raises:
        Unpackable: The database has no form for it.
    """
    meta = text_of_meta(operation.meta)
    quoted = "NULL" if meta is None else '"' + meta.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(operation, Hold):
        accounts, amounts = _columns([(account, _line_amount(amount)) for account, amount in operation.lines])
        _require_fit(operation.amount, operation.ttl_s)
        said = operation.compared_by
        digest = digest_of(f"hold by|{said}" if said else f"hold|{operation.amount}|{accounts}|{amounts}|{meta}")
        reserved = (operation.id.hex, str(operation.amount), str(operation.ttl_s), quoted, str(digest))
        return Parcel(operation.id, True, reserved, accounts, amounts, len(operation.lines))
    accounts, amounts = _columns(operation.legs)
    kind, resolves, reverses = int(operation.kind), "t" if operation.resolves_hold else "f", operation.reverses
    reversed_id = "NULL" if reverses is None else reverses.hex
    digest = digest_of(f"post|{kind}|{resolves}|{reversed_id}|{accounts}|{amounts}|{meta}")
    fields = (operation.id.hex, str(kind), resolves, quoted, reversed_id, str(digest))
    return Parcel(operation.id, False, fields, accounts, amounts, len(operation.legs))


def _line_amount(amount: int | None) -> int:
    """Write a pocket as 0, and a line that itself says 0 as -1, which the kernel calls invalid."""
    return 0 if amount is POCKET else amount or -1


def _columns(pairs: Sequence[tuple[int, int]]) -> tuple[str, str]:
    """Write accounts and amounts as two columns."""
    accounts, amounts = [account for account, _ in pairs], [amount for _, amount in pairs]
    _require_fit(*accounts, *amounts)
    return ",".join(map(str, accounts)), ",".join(map(str, amounts))


def _require_fit(*numbers: int) -> None:
    """Check in one go that all are integers of 64 bits."""
    try:
        array("q", numbers)
    except (TypeError, OverflowError) as wrong:
        raise Unpackable(str(wrong)) from wrong


def arguments_of(parcels: Sequence[Parcel]) -> tuple[str, ...]:
    """Join parcels into the arrays of `ledger.apply`, holds before posts."""
    return _arrays([one for one in parcels if one.is_hold], 5) + _arrays([one for one in parcels if not one.is_hold], 6)


def _arrays(parcels: Sequence[Parcel], fields: int) -> tuple[str, ...]:
    if not parcels:
        return ("{}",) * (fields + 3)
    columns = [",".join(column) for column in zip(*(one.fields for one in parcels), strict=True)]
    columns.append("".join(f"{number}," * one.size for number, one in enumerate(parcels, 1))[:-1])
    columns.append(",".join(one.accounts for one in parcels if one.size))
    columns.append(",".join(one.amounts for one in parcels if one.size))
    return tuple("{" + column + "}" for column in columns)


APPLY = (
    "SELECT array_to_string(ledger.apply(%t::uuid[], %t::bigint[], %t::int[], %t::text[], %t::bigint[], %t::int[], %t::bigint[], %t::bigint[], "
    "%t::uuid[], %t::smallint[], %t::boolean[], %t::text[], %t::uuid[], %t::bigint[], %t::int[], %t::bigint[], %t::bigint[]), ',')"
)


async def apply(connection: Connection, operations: Sequence[Operation]) -> list[Status]:
    """Do a batch in one transaction (the caller's, if it has opened one) and answer in its order.

    Raises:
        Unpackable: The database has no form for one of them; nothing was sent.
    """
    return await _apply(connection, [parcel_of(operation) for operation in operations])


async def _apply(connection: Connection, parcels: Sequence[Parcel]) -> list[Status]:
    cursor = await connection.execute(APPLY, arguments_of(parcels), prepare=True)
    row = await cursor.fetchone()
    assert row is not None
    said = row[0].split(",")
    holds = sum(one.is_hold for one in parcels)
    of_holds, of_posts = iter(said[:holds]), iter(said[holds:])
    return [Status(next(of_holds if one.is_hold else of_posts)) for one in parcels]


# --- writing ------------------------------------------------------------------------------------------------------------------------

_ANSWERED_BY_A_REPEAT = (psycopg.errors.UniqueViolation, psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)


class Overloaded(LedgerUnavailable):
    """More batches wait than the writer may keep waiting; nothing was done."""


@dataclass(slots=True)
class _Waiting:
    """One operation on its way: where the answer goes, and until when it is of use."""

    parcel: Parcel
    answer: asyncio.Future[Status]
    until: float


class _Lane:
    """One connection with one batch in flight; what arrives meanwhile makes the next."""

    def __init__(self, url: str, name: str, observe: Callable[[float], None]) -> None:
        self._url = url
        self._name = name
        self._observe = observe
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self.batches = 0
        self.operations = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        _refuse(self._waiting, DatabaseUnavailable(0))
        self._waiting.clear()
        await self._forget_connection()

    def put(self, parcel: Parcel) -> asyncio.Future[Status]:
        if len(self._waiting) >= MAX_BATCH * MAX_WAITING_BATCHES:
            raise Overloaded
        loop = asyncio.get_running_loop()
        waiting = _Waiting(parcel, loop.create_future(), loop.time() + ANSWER_LIMIT_S)
        self._waiting.append(waiting)
        self._wake.set()
        return waiting.answer

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._next_batch()
            if not self._waiting:
                self._wake.clear()
            if batch:
                await self._write(batch)

    def _next_batch(self) -> list[_Waiting]:
        """Take what waits and is still wanted; of operations with one id only the first."""
        batch: dict[uuid.UUID, _Waiting] = {}
        later: list[_Waiting] = []
        while self._waiting and len(batch) < MAX_BATCH:
            one = self._waiting.popleft()
            if one.answer.done():
                continue
            if one.parcel.id in batch:
                later.append(one)
            else:
                batch[one.parcel.id] = one
        self._waiting.extendleft(reversed(later))
        return list(batch.values())

    async def _write(self, batch: list[_Waiting]) -> None:
        """Do a batch and answer it. When the database refuses it as a whole, one by one, so that only the culprit is hurt."""
        try:
            statuses = await self._apply_surely(batch)
        except asyncio.CancelledError:
            _refuse(batch, DatabaseUnavailable(0))
            raise
        except DatabaseUnavailable as unknown:
            _refuse(batch, unknown)
        except psycopg.Error as refused:
            if len(batch) == 1:
                _refuse(batch, refused)
            else:
                for one in batch:
                    await self._write([one])
        else:
            self.batches += 1
            self.operations += len(batch)
            self._observe(len(batch))
            for one, status in zip(batch, statuses, strict=True):
                if not one.answer.done():
                    one.answer.set_result(status)

    async def _apply_surely(self, batch: list[_Waiting]) -> list[Status]:
        """Apply a batch; after a lost connection the same batch again, as long as its answers are of use: ids make it safe."""
        loop = asyncio.get_running_loop()
        parcels = [one.parcel for one in batch]
        until = max(min(one.until for one in batch), loop.time() + LAST_TRY_S)
        pause_s, longest_s = PAUSES_S
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await connect(self._url, name=self._name)
                return await bounded(_apply(self._connection, parcels), max(LAST_TRY_S, until - loop.time()))
            except _ANSWERED_BY_A_REPEAT as raced:
                failed: Exception = raced
            except (psycopg.OperationalError, psycopg.InterfaceError, DatabaseUnavailable) as broken:
                failed = broken
                await self._forget_connection()
            if loop.time() + pause_s >= until:
                raise DatabaseUnavailable(ANSWER_LIMIT_S) from failed
            await asyncio.sleep(pause_s)
            pause_s = min(longest_s, pause_s * 2)

    async def _forget_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await asyncio.wait_for(connection.close(), 1)
            except (TimeoutError, psycopg.Error):
                return


def _refuse(batch: Sequence[_Waiting] | deque[_Waiting], error: Exception) -> None:
    for one in batch:
        if not one.answer.done():
            one.answer.set_exception(error)


class Writer:
    """Writes what is submitted. Make one per process.

    Two lanes, each with one batch in flight: holds touch the accounts of consumers only, posts also those that everybody shares; so while
    one lane's commit reaches the disk the other works, and neither waits for the other's locks for long.
    """

    def __init__(self, url: str, *, name: str = "gfe_ledger_writer", observe: Callable[[float], None] = lambda _: None) -> None:
        self._holds = _Lane(url, f"{name}_holds", observe)
        self._posts = _Lane(url, f"{name}_posts", observe)

    @property
    def batches(self) -> int:
        """Batches written so far."""
        return self._holds.batches + self._posts.batches

    @property
    def operations(self) -> int:
        """Operations answered so far."""
        return self._holds.operations + self._posts.operations

    def start(self) -> None:
        """Begin to write."""
        self._holds.start()
        self._posts.start()

    async def aclose(self) -> None:
        """Stop; whoever still waits gets `DatabaseUnavailable`."""
        await self._holds.aclose()
        await self._posts.aclose()

    async def submit(self, operation: Operation) -> Status:
        """Do one operation with the next batch; `again` is repeated here.

        Raises:
            DatabaseUnavailable: The outcome is unknown; send the same operation again.
            Overloaded: Too much waits already.
        """
        try:
            parcel = parcel_of(operation)
        except Unpackable:
            return Status.INVALID
        lane = self._holds if parcel.is_hold else self._posts
        status = await lane.put(parcel)
        for _ in range(AGAIN_LIMIT):
            if status is not Status.AGAIN:
                break
            status = await lane.put(parcel)
        return status

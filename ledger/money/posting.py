"""The only code that writes money: packs operations into batches and hands them to `ledger.apply`.

Natural batching: while one batch is in the database the next one gathers, so that 64 callers share one commit and a lonely caller waits
for nobody. An operation's id is made before it is sent; a batch whose outcome is unknown is sent again as it is.
"""

import asyncio
import hashlib
import json
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

import psycopg

from ledger.db import Connection, DatabaseUnavailable, bounded, connect

MAX_BATCH = 256
MAX_WAITING_BATCHES = 8
RETRY_LIMIT_S = 2.5
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
    may_lack_funds: bool = False


Operation = Hold | Post


def digest_of(*parts: object) -> int:
    """Digest everything that matters in an operation into a signed 64-bit number."""
    said = repr(parts).encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), signed=True)


def text_of_meta(meta: dict[str, Any] | None) -> str | None:
    """Write meta in its one canonical form."""
    return None if meta is None else json.dumps(meta, sort_keys=True, separators=(",", ":"))


def pack(operations: Sequence[Operation]) -> tuple[list[Any], ...]:
    """Lay operations out as the arrays of `ledger.apply`. Pockets are written as 0, a line that says 0 as -1 (invalid)."""
    h_id: list[uuid.UUID] = []
    h_amount: list[int] = []
    h_ttl: list[int] = []
    h_meta: list[str | None] = []
    h_digest: list[int] = []
    hl_hold: list[int] = []
    hl_account: list[int] = []
    hl_amount: list[int] = []
    t_id: list[uuid.UUID] = []
    t_kind: list[int] = []
    t_hold: list[bool] = []
    t_meta: list[str | None] = []
    t_reverses: list[uuid.UUID | None] = []
    t_digest: list[int] = []
    l_txn: list[int] = []
    l_account: list[int] = []
    l_amount: list[int] = []
    for operation in operations:
        meta = text_of_meta(operation.meta)
        if isinstance(operation, Hold):
            h_id.append(operation.id)
            h_amount.append(operation.amount)
            h_ttl.append(operation.ttl_s)
            h_meta.append(meta)
            h_digest.append(digest_of("hold", operation.compared_by or (operation.amount, meta, operation.lines)))
            for account, amount in operation.lines:
                hl_hold.append(len(h_id))
                hl_account.append(account)
                hl_amount.append(0 if amount is POCKET else amount or -1)
        else:
            t_id.append(operation.id)
            t_kind.append(int(operation.kind))
            t_hold.append(operation.resolves_hold)
            t_meta.append(meta)
            t_reverses.append(operation.reverses)
            t_digest.append(digest_of("post", int(operation.kind), operation.resolves_hold, operation.reverses, meta, operation.legs))
            for account, amount in operation.legs:
                l_txn.append(len(t_id))
                l_account.append(account)
                l_amount.append(amount)
    return (
        h_id, h_amount, h_ttl, h_meta, h_digest, hl_hold, hl_account, hl_amount,
        t_id, t_kind, t_hold, t_meta, t_reverses, t_digest, l_txn, l_account, l_amount,
    )  # fmt: skip


APPLY = (
    "SELECT id, status FROM ledger.apply(%b::uuid[], %b::bigint[], %b::int[], %b::text[], %b::bigint[], %b::int[], %b::bigint[], %b::bigint[], "
    "%b::uuid[], %b::smallint[], %b::boolean[], %b::text[], %b::uuid[], %b::bigint[], %b::int[], %b::bigint[], %b::bigint[])"
)


async def apply(connection: Connection, operations: Sequence[Operation]) -> list[Status]:
    """Do a batch in one transaction and answer in its order. The caller sees to it that no id is twice in it."""
    cursor = connection.cursor(binary=True)
    await cursor.execute(APPLY, pack(operations), prepare=True)
    answers: dict[uuid.UUID, str] = {row[0]: row[1] for row in await cursor.fetchall()}
    return [Status(answers[operation.id]) for operation in operations]


class Overloaded(Exception):
    """More batches wait than the writer may keep waiting."""


class Writer:
    """One connection, one batch in flight, everything else gathers. Make one per process."""

    def __init__(self, url: str, *, name: str = "gfe_ledger_writer") -> None:
        self._url = url
        self._name = name
        self._waiting: deque[tuple[Operation, asyncio.Future[Status]]] = deque()
        self._wake = asyncio.Event()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self.batches = 0
        self.operations = 0

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="ledger writer")

    async def aclose(self) -> None:
        """Stop; whoever still waits gets `DatabaseUnavailable`."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for _, answer in self._waiting:
            if not answer.done():
                answer.set_exception(DatabaseUnavailable(0))
        self._waiting.clear()
        if self._connection:
            await self._connection.close()

    def put(self, operation: Operation) -> asyncio.Future[Status]:
        """Put one operation into the next batch; the answer arrives in the future.

        Raises:
            Overloaded: Too much waits already.
        """
        if len(self._waiting) >= MAX_BATCH * MAX_WAITING_BATCHES:
            raise Overloaded
        answer: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
        self._waiting.append((operation, answer))
        self._wake.set()
        return answer

    async def submit(self, operation: Operation) -> Status:
        """Do one operation with the next batch; `again` is repeated here.

        Raises:
            DatabaseUnavailable: The outcome is unknown; send the same operation again.
            Overloaded: Too much waits already.
        """
        status = await self.put(operation)
        for _ in range(AGAIN_LIMIT):
            if status is not Status.AGAIN:
                break
            status = await self.put(operation)
        return status

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._next_batch()
            if not self._waiting:
                self._wake.clear()
            if batch:
                await self._write(batch)

    def _next_batch(self) -> list[tuple[Operation, asyncio.Future[Status]]]:
        """Take what waits: no id twice, and a post that may lack funds alone, so that it never sends captures to the slow path."""
        batch: list[tuple[Operation, asyncio.Future[Status]]] = []
        ids: set[uuid.UUID] = set()
        while self._waiting and len(batch) < MAX_BATCH:
            operation, _ = self._waiting[0]
            is_risky = isinstance(operation, Post) and operation.may_lack_funds
            if operation.id in ids or (is_risky and batch):
                break
            batch.append(self._waiting.popleft())
            ids.add(operation.id)
            if is_risky:
                break
        return batch

    async def _write(self, batch: list[tuple[Operation, asyncio.Future[Status]]]) -> None:
        operations = [operation for operation, _ in batch]
        try:
            statuses = await self._apply_surely(operations)
        except Exception as failed:  # noqa: BLE001 - whatever it was, the callers must hear of it
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(failed)
            return
        self.batches += 1
        self.operations += len(batch)
        for (_, answer), status in zip(batch, statuses, strict=True):
            if not answer.done():
                answer.set_result(status)

    async def _apply_surely(self, operations: list[Operation]) -> list[Status]:
        """Apply a batch; after a lost connection the same batch again, for `RETRY_LIMIT_S`: ids make it safe."""
        loop = asyncio.get_running_loop()
        until = loop.time() + RETRY_LIMIT_S
        pause_s = 0.05
        while True:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await connect(self._url, name=self._name)
                return await bounded(apply(self._connection, operations), max(0.25, until - loop.time()))
            except (psycopg.OperationalError, psycopg.InterfaceError, DatabaseUnavailable) as broken:
                await self._forget_connection()
                if loop.time() + pause_s >= until:
                    raise DatabaseUnavailable(RETRY_LIMIT_S) from broken
                await asyncio.sleep(pause_s)
                pause_s = min(0.5, pause_s * 2)

    async def _forget_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await asyncio.wait_for(connection.close(), 1)
            except (TimeoutError, psycopg.Error):
                return

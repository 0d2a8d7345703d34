"""How the ledger talks to PostgreSQL: one connection per user of it, calls that end in time, reconnection that says nothing twice."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

T = TypeVar("T")
Connection = AsyncConnection[TupleRow]

CALL_LIMIT_S = 3.0
CONNECT_LIMIT_S = 3
MIN_LIMIT_S = 0.25
OPTIONS = "-c statement_timeout=5000 -c lock_timeout=2000 -c idle_in_transaction_session_timeout=10000"


class DatabaseUnavailable(Exception):
    """PostgreSQL did not answer in time or the connection broke; the outcome of the call is unknown."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(limit_s)
        self.limit_s = limit_s

    def __str__(self) -> str:
        """Say what happened."""
        return f"the database did not answer within {self.limit_s:.3g} s"


async def bounded(call: Coroutine[Any, Any, T], limit_s: float = CALL_LIMIT_S, grace_s: float = 0.25) -> T:
    """Run a database call for at most `limit_s` seconds, then let go of its connection.

    On cancel psycopg first asks the server, then waits for its answer; against a frozen server that takes 10 s more. A second cancel
    closes the socket at once. The outcome of a call that ran out of time is unknown: repeat it with the same id.

    Raises:
        DatabaseUnavailable: The limit passed.
    """
    task = asyncio.create_task(call)
    try:
        done, _ = await asyncio.wait({task}, timeout=limit_s)
        if done:
            return task.result()
    finally:
        for _ in range(2):
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=grace_s)
    if task.done() and not task.cancelled() and task.exception() is None:
        return task.result()
    raise DatabaseUnavailable(limit_s)


async def connect(url: str, *, name: str, limit_s: float = CONNECT_LIMIT_S + 0.5) -> Connection:
    """Open a connection in autocommit mode; statements are prepared at their second use.

    Raises:
        DatabaseUnavailable: Nobody answers.
    """
    try:
        return await bounded(
            AsyncConnection.connect(
                url, autocommit=True, prepare_threshold=1, connect_timeout=CONNECT_LIMIT_S, application_name=name, options=OPTIONS
            ),
            limit_s,
        )
    except psycopg.OperationalError as broken:
        raise DatabaseUnavailable(limit_s) from broken


class Database:
    """A small pool of connections, each checked before it is lent.

    The pool is ours because it must let go of a connection to a frozen server in bounded time (see `bounded`), which a stock pool does
    not; it is a queue of at most `size` connections.
    """

    def __init__(self, url: str, *, name: str, size: int = 4) -> None:
        self._url = url
        self._name = name
        self._free: asyncio.LifoQueue[Connection | None] = asyncio.LifoQueue()
        for _ in range(size):
            self._free.put_nowait(None)

    @asynccontextmanager
    async def connection(self, limit_s: float = CALL_LIMIT_S) -> AsyncIterator[Connection]:
        """Lend a connection.

        Raises:
            DatabaseUnavailable: All are lent for too long, or nobody answers.
        """
        try:
            async with asyncio.timeout(limit_s):
                connection = await self._free.get()
        except TimeoutError:
            raise DatabaseUnavailable(limit_s) from None
        try:
            if connection is not None and not _is_usable(connection):
                await _drop(connection)
                connection = None
            if connection is None:
                connection = await connect(self._url, name=self._name, limit_s=limit_s)
            yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError, DatabaseUnavailable) as broken:
            if connection is not None:
                await _drop(connection)
                connection = None
            if isinstance(broken, DatabaseUnavailable):
                raise
            raise DatabaseUnavailable(limit_s) from broken
        finally:
            self._free.put_nowait(connection)

    async def run(self, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """Run `work` on a connection, in `CALL_LIMIT_S` at most; once more on a fresh connection when the old one turns out to be dead.

        Only for work that may be done twice: reads, and writes that are idempotent by their ids.

        Raises:
            DatabaseUnavailable: It did not work out in time.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + CALL_LIMIT_S
        for attempt in (1, 2):
            try:
                async with self.connection(max(MIN_LIMIT_S, until - loop.time())) as connection:
                    return await bounded(work(connection), max(MIN_LIMIT_S, until - loop.time()))
            except DatabaseUnavailable as broken:
                if attempt == 2 or broken.__cause__ is None or loop.time() >= until:
                    raise
        raise DatabaseUnavailable(CALL_LIMIT_S)

    async def transact(self, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """Run `work` once, in one transaction, in `CALL_LIMIT_S` at most. For writes that may not be done twice.

        Raises:
            DatabaseUnavailable: It did not work out in time; whether it took effect is unknown.
        """

        async def in_transaction(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        await self.run(_ping)  # a connection that died while nobody used it must not cost a request that nobody has sent yet
        async with self.connection() as connection:
            return await bounded(in_transaction(connection))

    async def close(self) -> None:
        """Close what is not lent."""
        while not self._free.empty():
            connection = self._free.get_nowait()
            if connection is not None:
                await _drop(connection)


async def _ping(connection: Connection) -> None:
    await connection.execute("SELECT 1")


def _is_usable(connection: Connection) -> bool:
    """Whether a connection came back whole: open, and not in the middle of a transaction that was cut off."""
    return not (connection.closed or connection.broken) and connection.info.transaction_status == TransactionStatus.IDLE


async def _drop(connection: Connection) -> None:
    """Close a connection that may be dead."""
    try:
        await asyncio.wait_for(connection.close(), 1)
    except (TimeoutError, psycopg.Error):
        return

"""How a replica talks to PostgreSQL. A twin of `ledger/db.py`, kept apart on purpose: it stands on the other side of a process border."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

T = TypeVar("T")
Connection = AsyncConnection[TupleRow]

CALL_LIMIT_S = 3.0
CONNECT_LIMIT_S = 3
OPTIONS = "-c statement_timeout=5000 -c lock_timeout=2000 -c idle_in_transaction_session_timeout=10000"


class DatabaseUnavailable(Exception):
    """PostgreSQL did not answer in time or the connection broke; the outcome of the call is unknown."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(limit_s)
        self.limit_s = limit_s

    def __str__(self) -> str:
        """Say what happened."""
        return f"the database did not answer within {self.limit_s:g} s"


async def bounded(call: Coroutine[Any, Any, T], limit_s: float = CALL_LIMIT_S, grace_s: float = 0.25) -> T:
    """Run a database call for at most `limit_s` seconds, then let go of its connection.

    The first cancel asks the server, the second closes the socket: a frozen server cannot hold us (faults reference 2.3).

    Raises:
        DatabaseUnavailable: The limit passed; repeat with the same id.
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


class Line:
    """One connection, opened when it is needed and again after it broke. Calls on it follow each other."""

    def __init__(self, url: str, *, name: str) -> None:
        self._url = url
        self._name = name
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    async def query(self, statement: str, parameters: Any = ()) -> list[TupleRow]:
        """Run one statement in a transaction of its own; answer its rows.

        Raises:
            DatabaseUnavailable: It did not work out in time. The outcome is unknown.
        """
        async with self._turn:
            for attempt in (1, 2):
                try:
                    return await bounded(self._query(statement, parameters))
                except DatabaseUnavailable:
                    await self.drop()
                    raise
                except (psycopg.OperationalError, psycopg.InterfaceError) as broken:
                    await self.drop()
                    if attempt == 2:
                        raise DatabaseUnavailable(CALL_LIMIT_S) from broken
            raise DatabaseUnavailable(CALL_LIMIT_S)

    async def _query(self, statement: str, parameters: Any) -> list[TupleRow]:
        if self._connection is None or self._connection.closed:
            self._connection = await AsyncConnection.connect(
                self._url,
                autocommit=True,
                prepare_threshold=1,
                connect_timeout=CONNECT_LIMIT_S,
                application_name=self._name,
                options=OPTIONS,
            )
        cursor = self._connection.cursor(binary=True)
        await cursor.execute(statement.encode(), parameters)
        return await cursor.fetchall() if cursor.description else []

    async def drop(self) -> None:
        """Close the connection, dead or alive."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await asyncio.wait_for(connection.close(), 1)
            except (TimeoutError, psycopg.Error):
                return

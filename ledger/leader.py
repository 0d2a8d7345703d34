"""Which of several ledger processes does the work that one of them must do: whoever holds an advisory lock of the database."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import psycopg
import structlog

from ledger.db import Connection, DatabaseUnavailable, bounded, connect

LOCK = 0x67666501  # advisory lock of the leader ("gfe", 1)
LOOK_EVERY_S = 2.0  # how often a follower asks for the lock, and a leader whether it still has it
log = structlog.get_logger()


async def lead(url: str, work: Callable[[], Sequence[Awaitable[None]]]) -> None:
    """Run `work` for as long as this process leads, and again whenever it leads again; until canceled.

    PostgreSQL gives the lock up with the connection that holds it, so that a killed leader is followed within `LOOK_EVERY_S`. A leader that
    lost its connection without noticing may work beside its follower for that long: every piece of work is harmless when done twice.
    """
    while True:
        with suppress(DatabaseUnavailable):
            connection = await connect(url, name="gfe_leader")
            try:
                await _until_elected(connection)
                log.info("leads")
                await _work_while_leading(connection, work)
            finally:
                with suppress(Exception):
                    await asyncio.wait_for(connection.close(), 1)
        await asyncio.sleep(LOOK_EVERY_S)


async def _until_elected(connection: Connection) -> None:
    while not await _ask(connection, "SELECT pg_try_advisory_lock(%s)", LOCK):  # noqa: ASYNC110 - only the database knows
        await asyncio.sleep(LOOK_EVERY_S)


async def _work_while_leading(connection: Connection, work: Callable[[], Sequence[Awaitable[None]]]) -> None:
    tasks = [asyncio.ensure_future(one) for one in work()]
    try:
        while await _ask(connection, "SELECT true"):
            await asyncio.wait(tasks, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
    except DatabaseUnavailable:
        log.warning("leads_no_more")
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ask(connection: Connection, question: str, *values: int) -> bool:
    """Ask on the connection that holds the lock.

    Raises:
        DatabaseUnavailable: It does not answer, or is broken: then the lock is gone, or soon will be.
    """

    async def asked() -> bool:
        cursor = await connection.execute(question, values)
        row = await cursor.fetchone()
        return bool(row and row[0])

    try:
        return await bounded(asked())
    except psycopg.Error as broken:
        raise DatabaseUnavailable(0) from broken

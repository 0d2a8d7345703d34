"""Hands many operations to the writer at once; each gets its own answer."""

import asyncio
from collections.abc import Sequence

import psycopg
import structlog

from ledger.db import DatabaseUnavailable
from ledger.errors import LedgerError, LedgerUnavailable
from ledger.money.posting import Operation, Overloaded, Status, Writer

# Statuses that no caller can cause: a defect of ours, to be seen by the operator.
DEFECTS = frozenset({Status.OVER_HOLD, Status.UNBALANCED, Status.NO_ACCOUNT, Status.NO_TXN, Status.INVALID})
log = structlog.get_logger()


async def submit_all(writer: Writer, operations: Sequence[Operation]) -> list[Status | LedgerError]:
    """Put operations into the writer's next batches and answer in their order."""
    if len(operations) == 1:
        return [await _answered(writer, operations[0])]
    return list(await asyncio.gather(*(_answered(writer, operation) for operation in operations)))


async def _answered(writer: Writer, operation: Operation) -> Status | LedgerError:
    try:
        status = await writer.submit(operation)
    except (DatabaseUnavailable, Overloaded):
        return LedgerUnavailable()
    except psycopg.Error:
        log.exception("database_refused_an_operation", id=str(operation.id), kind=type(operation).__name__)
        return LedgerUnavailable()
    if status in DEFECTS:
        log.error("books_refused_an_operation", id=str(operation.id), status=status.value, kind=type(operation).__name__)
        return LedgerUnavailable()
    return status

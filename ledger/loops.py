"""What the ledger does by itself: expire holds, note which keys were used."""

import asyncio

import structlog

from ledger.context import LedgerContext
from ledger.db import DatabaseUnavailable

EXPIRY_EVERY_S = 5.0
USES_EVERY_S = 30.0
log = structlog.get_logger()


async def expire_holds(context: LedgerContext) -> None:
    """Release holds whose time is over; full batches follow each other without a pause."""
    while True:
        try:
            expired = await context.holds.expire()
        except DatabaseUnavailable:
            expired = 0
        if expired:
            log.info("holds_expired", count=expired)
        await asyncio.sleep(EXPIRY_EVERY_S)


async def note_key_uses(context: LedgerContext) -> None:
    """Write down when keys were last used."""
    while True:
        await asyncio.sleep(USES_EVERY_S)
        try:
            await context.keys.note_uses()
        except DatabaseUnavailable:
            continue

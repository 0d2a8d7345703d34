"""What the ledger does by itself: what each process does for itself, and what one of them, the leader, does for all."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from ledger import audit_log, metrics, replies
from ledger.context import LedgerContext
from ledger.db import Connection, DatabaseUnavailable
from ledger.identity import limits, mail_codes, sessions
from ledger.identity.limits import take_turn
from ledger.identity.oauth import guests
from ledger.leader import lead
from ledger.money import reviews
from ledger.money.audit import Finding, audit_at
from ledger.money.incremental_audit import audit_new
from ledger.money.prices import set_default_price
from ledger.money.settling import EXPIRY_BATCH
from ledger.payments.deposits import expire
from ledger.payments.inbox import work_inbox
from ledger.verification.work import promote

EXPIRY_EVERY_S = 5.0
USES_EVERY_S = 30.0
NONCES_EVERY_S = 60.0
FEED_EVERY_S = 3600.0
PRICE_EVERY_S = 1.0
RELEASE_EVERY_S = 10.0
WORK_EVERY_S = 10.0
PROMOTION_EVERY_S = 60.0
SAMPLES_EVERY_S = 60.0
MAIL_EVERY_S = 5.0
AUDIT_EVERY_S = 60.0
FULL_AUDIT_LOOK_S = 600.0
FULL_AUDIT_EVERY_S = 24 * 3600.0
LOOK_EVERY_S = 5.0
CLEAN_UP_EVERY_S = 3600.0
INBOX_EVERY_S = 1.0
DEPOSITS_EVERY_S = 30.0
log = structlog.get_logger()


def loops(context: LedgerContext) -> list[Awaitable[None]]:
    """All of a process, to be run side by side until they are canceled."""
    return [
        keep_price(context),
        repeat(context.keys.note_uses, USES_EVERY_S),
        repeat(context.work.flush, WORK_EVERY_S),
        repeat(lambda: look(context), LOOK_EVERY_S),
        lead(context.settings.database_url, lambda: loops_of_leader(context)),
    ]


def loops_of_leader(context: LedgerContext) -> list[Awaitable[None]]:
    """What one process does for all."""
    return [
        repeat(lambda: expire_holds(context), EXPIRY_EVERY_S),
        repeat(context.agent_tokens.clean, NONCES_EVERY_S),
        repeat(context.feed.clean, FEED_EVERY_S),
        repeat(lambda: work_inbox(context.payments), INBOX_EVERY_S),
        repeat(lambda: expire_deposits(context), DEPOSITS_EVERY_S),
        repeat(context.earnings.release, RELEASE_EVERY_S),
        repeat(lambda: promote(context.database), PROMOTION_EVERY_S),
        repeat(context.samples.forget_old, SAMPLES_EVERY_S),
        repeat(context.owed_mail.hand_over, MAIL_EVERY_S),
        repeat(lambda: audit_new_entries(context), AUDIT_EVERY_S),
        repeat(lambda: audit_everything(context), FULL_AUDIT_LOOK_S),
        repeat(lambda: clean_up(context), CLEAN_UP_EVERY_S),
    ]


async def repeat(work: Callable[[], Awaitable[object]], every_s: float) -> None:
    """Do `work` for ever. Whatever it meets, the next round comes: nobody else would begin it again."""
    while True:
        try:
            await work()
        except DatabaseUnavailable:
            pass  # noted by whoever waits for an answer; the next round finds what this one left
        except Exception:
            log.exception("loop_failed", work=getattr(work, "__qualname__", "?"))
        await asyncio.sleep(every_s)


async def expire_holds(context: LedgerContext) -> None:
    """Release holds whose time is over; full batches follow each other without a pause."""
    while (expired := await context.settling.expire()) > 0:
        log.info("holds_expired", count=expired)
        if expired < EXPIRY_BATCH:
            break


async def expire_deposits(context: LedgerContext) -> None:
    """Give up deposits that nobody confirmed in time."""
    if ended := await expire(context.payments):
        log.info("deposits_expired", count=ended)


async def keep_price(context: LedgerContext) -> None:
    """Make the price of the settings the default one, as soon as the database answers."""

    async def write(connection: Connection) -> None:
        await set_default_price(connection, *context.settings.price_micros)

    while True:
        try:
            await context.database.run(write)
            return
        except DatabaseUnavailable:
            await asyncio.sleep(PRICE_EVERY_S)


async def audit_new_entries(context: LedgerContext) -> None:
    """Check what was posted since the last time; one process at a time."""
    findings = await context.database.run(audit_new)
    if findings is not None:
        await _note(context, "incremental", findings)


async def audit_everything(context: LedgerContext) -> None:
    """Check every rule from the first entry on, once a day, by whichever process gets the day's turn."""
    if await context.database.run(lambda connection: take_turn(connection, "full audit", FULL_AUDIT_EVERY_S)):
        await _note(context, "full", await asyncio.to_thread(audit_at, context.settings.database_url))


async def _note(context: LedgerContext, name: str, findings: Sequence[Finding]) -> None:
    broken = [found for found in findings if not found.is_held]
    context.metrics.note_audit(name, len(broken))
    await context.database.run(lambda connection: reviews.note(connection, name, reviews.accounts_in(findings)))
    for found in broken:
        log.error("books_violated", audit=name, rule=found.rule, rows=[list(map(str, row)) for row in found.violations[:3]])


async def look(context: LedgerContext) -> None:
    """Look up what the metrics show, and on which accounts nothing may be held now."""
    context.metrics.note_look(await context.database.run(metrics.look))
    context.holds.review(await context.database.run(reviews.read))


async def clean_up(context: LedgerContext) -> None:
    """Forget what has expired, and seal the audit log."""

    async def work(connection: Connection) -> None:
        for forget in (sessions.clean_up, mail_codes.clean_up, guests.clean_up, limits.clean_up, replies.clean_up):
            await forget(connection)
        while await audit_log.seal(connection) == audit_log.BLOCK:
            pass

    await context.database.run(work)

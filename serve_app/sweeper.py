"""What keeps jobs ours, and what crashes leave behind: holds without a job. Many sweepers are harmless: each write is guarded."""

import asyncio

import structlog

from ledger.client import HoldNotOpen, LedgerError, LedgerOperations, Void
from serve_app.db import DatabaseUnavailable
from serve_app.store.jobs import JobStore, JobWriter

log = structlog.get_logger()
RENEW_S = 5.0
SWEEP_S = 5.0
HOLD_WITHOUT_JOB_S = 30


async def renew_leases(store: JobStore, writer: JobWriter) -> None:
    """Renew the leases of this driver's jobs, for ever."""
    while True:
        try:
            await store.renew(writer.driver, writer.live)
        except DatabaseUnavailable:
            await asyncio.sleep(1)
            continue
        await asyncio.sleep(RENEW_S)


async def sweep(store: JobStore, ledger: LedgerOperations) -> None:
    """Sweep for ever."""
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await sweep_once(store, ledger)
        except (DatabaseUnavailable, LedgerError):
            continue


async def sweep_once(store: JobStore, ledger: LedgerOperations) -> None:
    """Void holds that never became jobs.

    Raises:
        DatabaseUnavailable: Ours does not answer.
        LedgerUnavailable: The ledger does not answer.
    """
    old = await ledger.find_holds(HOLD_WITHOUT_JOB_S)
    if not old:
        return
    known = await store.known([hold.id for hold in old])
    for hold in old:
        if hold.id not in known:
            log.warning("hold_without_job_voided", hold=str(hold.id), age_s=hold.age_s)
            try:
                await ledger.void(Void(id=hold.id, reason="no job was recorded", retryable=True))
            except HoldNotOpen:
                continue

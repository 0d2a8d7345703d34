"""Jobs whose driver was lost go on with another one (design section 3). The old driver's writes name itself and find no row.

What runs is attached to; what waits is queued again. A job that somebody was to read along, and nobody reads, ends: it costs nothing.
"""

import asyncio
import time
from contextlib import aclosing, suppress

import structlog

from cluster.errors import ClusterError
from cluster.nodes import Node
from ledger.client import LedgerError
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.driving import Driven, drive
from serve_app.ends import give_up
from serve_app.errors import ServeError
from serve_app.job import OpenJob, adopted_job
from serve_app.store.jobs import JobStore
from serve_app.store.records import Adopted, JobState

log = structlog.get_logger()
LOOK_S = 2.0
STEADY_S = 6.0  # so long the database must have answered before a lease that ran out means anything: its owner gets time to renew it
SEEN_LOOK_S = 3.0
NODE_LOOKS, NODE_LOOK_S = 5, 0.5


async def adopt_for_ever(context: ServeContext, store: JobStore) -> None:
    """Look for lost jobs, for ever."""
    steady_since = last = time.monotonic()
    while True:
        await asyncio.sleep(LOOK_S)
        now = time.monotonic()
        if now - last > LOOK_S + STEADY_S / 2:  # this process stood still itself
            steady_since = now
        last = now
        try:
            if now - steady_since < STEADY_S:
                await store.ping()
            else:
                await adopt_once(context, store)
        except DatabaseUnavailable:
            steady_since = time.monotonic()


async def adopt_once(context: ServeContext, store: JobStore) -> int:
    """Take over what is lost now; answer how many jobs.

    Raises:
        DatabaseUnavailable: Ours does not answer.
    """
    lost = await store.adopt(context.writer.driver, context.writer.live)
    for row in lost:
        context.writer.live.add(row.id)
        log.warning("job_adopted", job=str(row.id), is_wanted=row.is_wanted)
        context.spawn(_go_on(context, row))
    return len(lost)


async def _go_on(context: ServeContext, row: Adopted) -> None:
    node = await _node_of(context, row)
    job = adopted_job(row, node, time.monotonic())
    may_have_spoken = row.state is JobState.RUNNING or row.node is not None
    if not row.is_wanted or (row.is_sync and may_have_spoken and node is None):  # begun anew it could say something else
        await give_up(context, job, has_started=may_have_spoken)
        return
    if node is not None:
        job.attaches = True
    else:
        job.number += 1
    await read_out(context, job, asyncio.create_task(drain(drive(context, job))))


async def _node_of(context: ServeContext, row: Adopted) -> Node | None:
    """Find the node that a job runs on; it may be on its way back."""
    for _ in range(NODE_LOOKS if row.node else 0):
        try:
            if (node := context.view.snapshot.nodes.get(row.node or "")) is not None:
                return node
        except ClusterError:
            log.info("nodes_unknown", job=str(row.id))
        await asyncio.sleep(NODE_LOOK_S)
    return None


async def read_out(context: ServeContext, job: OpenJob, reading: "asyncio.Task[None]") -> None:
    """Let a job be driven to its end without its consumer; one that was to be read along only as long as somebody reads it."""
    try:
        while not reading.done():
            await asyncio.wait({reading}, timeout=SEEN_LOOK_S)
            if job.is_sync and not reading.done() and not await _is_seen(context, job):
                return
    finally:
        reading.cancel()  # ends the job: what was delivered is charged
        await asyncio.gather(reading, return_exceptions=True)


async def let_go(context: ServeContext, job: OpenJob, reading: "asyncio.Task[None]") -> None:
    """The consumer left a job to which it can come back: wait for it as long as for any reader."""
    with suppress(DatabaseUnavailable):
        await context.store.note_seen(job.id)
    await read_out(context, job, reading)


async def drain(events: Driven) -> None:
    """Drive a job that nobody reads to its end; a failure is in its row."""
    async with aclosing(events):
        try:
            async for _ in events:
                pass
        except (ServeError, ClusterError, LedgerError, DatabaseUnavailable) as failed:
            log.info("unread_job_failed", reason=str(failed))


async def _is_seen(context: ServeContext, job: OpenJob) -> bool:
    try:
        return await context.store.is_seen(job.id)
    except DatabaseUnavailable:
        return True

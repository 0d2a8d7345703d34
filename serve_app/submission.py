"""The use case, first half: hold, place, record (design section 2). `serve_app/driving.py` runs what is recorded here."""

import asyncio
import time

from cluster.errors import PoisonRequest
from cluster.queue import MOST_WAITING
from ledger.client import PlaceHold, new_hold_id
from serve_app import decisions
from serve_app.adoption import drain
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.decisions import decision_of
from serve_app.driving import drive
from serve_app.ends import end_unread, forget
from serve_app.errors import QueueFull, RequestReplayed, StoreUnavailable
from serve_app.job import JobRequest, OpenJob, digest_of, prompt_head, request_text, terms_text
from serve_app.placing import place, placement_of, require_awaited, require_model
from serve_app.store.records import NewJob

HOLD_TO_RECORD_S = 15.0  # later than this a hold may be taken for one without a job


async def open_job(context: ServeContext, credential: str, asked: JobRequest) -> OpenJob:
    """Hold, place and record. Not `is_sync`: nobody reads along, it waits for a node as long as it takes; `is_batch`: at the price of batches.

    Raises:
        ModelUnavailable: Nobody offers the model; nothing was held.
        InsufficientFunds: The caller cannot pay; there is no job.
        NotAuthenticated: The ledger does not know the key.
        RequestReplayed: The Idempotency-Key was used before.
        LedgerUnavailable: New jobs cannot be taken now.
        StoreUnavailable: The job could not be recorded; the hold is given back.
        ClusterUnreachable: Nobody can say which nodes there are.
        PoisonRequest: It ended two runtimes within the last hour.
    """
    started = time.monotonic()
    await _require_model(context, asked)
    if context.poison.is_known(started) and context.poison.has(digest_of(asked), started):
        raise PoisonRequest
    context.retries.earn()
    id_ = new_hold_id()
    hold = PlaceHold.model_construct(
        op="place_hold", id=id_, credential=credential, model=asked.model, prompt_tokens=asked.prompt_bytes, max_tokens=asked.max_tokens,
        ttl_s=_ttl_s(context, asked), batch=asked.is_batch, idempotency_key=asked.idempotency_key, request_digest=asked.digest,
    )  # fmt: skip
    with context.traces.step(id_, "hold", model=asked.model):
        placed = await context.ledger.place_hold(hold)
    if placed.status == "exists":
        raise RequestReplayed(placed.id)
    wanted = placement_of(context, asked, placed.caller)
    job = OpenJob(placed.id, asked, placed, place(context, wanted), started, is_sync=asked.is_sync)
    job.decisions.append(decision_of(wanted, context.view.snapshot, 1, job.node.id if job.node else None))
    if job.node:
        context.view.note_placed(job.node.id)
        context.breakers.placed(job.node.id, time.monotonic())
    row = _row_of(job)
    try:
        if time.monotonic() - started > HOLD_TO_RECORD_S:
            raise StoreUnavailable
        with context.traces.step(job.id, "record"):
            await context.writer.create(row)
    except (DatabaseUnavailable, StoreUnavailable) as failed:
        context.spawn(forget(context, row))
        raise StoreUnavailable from failed
    except asyncio.CancelledError:
        context.spawn(end_unread(context, job, None))
        raise
    return job


async def start_job(context: ServeContext, credential: str, asked: JobRequest) -> OpenJob:
    """Open a job that nobody reads along, and let it run by itself. Once begun this is done to its end, also when the client leaves meanwhile.

    Raises:
        QueueFull: Too many wait for the model; nothing was held.
        ServeError, LedgerError, ClusterError: As `open_job` does.
    """
    if context.view.snapshot.waiting.get(asked.model, 0) >= MOST_WAITING:
        raise QueueFull(asked.model)

    async def start() -> OpenJob:
        job = await open_job(context, credential, asked)
        context.spawn(drain(drive(context, job)))
        return job

    return await asyncio.shield(context.spawn(start()))


async def _require_model(context: ServeContext, asked: JobRequest) -> None:
    if asked.is_sync:
        require_model(asked.model, context.view.snapshot, context.feed.catalog)
    else:
        await require_awaited(context, asked.model)


def _ttl_s(context: ServeContext, asked: JobRequest) -> int:
    """Tell for how long a hold must stand: a job that runs by itself may wait before it runs."""
    return int(context.limits.total_s + (0 if asked.is_sync else context.limits.async_wait_s))


def _row_of(job: OpenJob) -> NewJob:
    asked, caller = job.asked, job.placed.caller
    return NewJob(
        id=job.id, user=caller.user, username=caller.username, key=caller.key, kind=asked.kind, model=asked.model,
        node=job.node.id if job.node else None, held=job.placed.held, request=request_text(asked), terms=terms_text(asked, job.placed),
        why=decisions.text_of(job.decisions), prompt=prompt_head(asked.request), is_sync=job.is_sync, webhook=asked.webhook,
    )  # fmt: skip

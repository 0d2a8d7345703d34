"""The use case, first half: hold, place, record (design section 2). `serve_app/driving.py` runs what is recorded here."""

import asyncio
import time

from cluster.errors import PoisonRequest
from ledger.client import PlaceHold, new_hold_id
from serve_app import decisions
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.decisions import decision_of
from serve_app.ends import end_unread, forget
from serve_app.errors import RequestReplayed, StoreUnavailable
from serve_app.job import JobRequest, OpenJob, digest_of, request_text, terms_text
from serve_app.placing import place, placement_of, require_model
from serve_app.store.records import NewJob

HOLD_TO_RECORD_S = 15.0  # later than this a hold may be taken for one without a job


async def open_job(context: ServeContext, credential: str, asked: JobRequest, *, is_sync: bool = True, is_batch: bool = False) -> OpenJob:
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
    require_model(asked.model, context.view.snapshot, context.feed.catalog)
    if context.poison.is_known(started) and context.poison.has(digest_of(asked), started):
        raise PoisonRequest
    context.retries.earn()
    placed = await context.ledger.place_hold(
        PlaceHold.model_construct(
            op="place_hold", id=new_hold_id(), credential=credential, model=asked.model, prompt_tokens=asked.prompt_bytes, max_tokens=asked.max_tokens,
            ttl_s=int(context.limits.total_s + (0 if is_sync else context.limits.async_wait_s)), batch=is_batch, idempotency_key=asked.idempotency_key, request_digest=asked.digest,
        )
    )  # fmt: skip
    if placed.status == "exists":
        raise RequestReplayed(placed.id)
    wanted = placement_of(context, asked, placed.caller)
    job = OpenJob(placed.id, asked, placed, place(context, wanted), started, is_sync=is_sync)
    job.decisions.append(decision_of(wanted, context.view.snapshot, 1, job.node.id if job.node else None))
    if job.node:
        context.view.note_placed(job.node.id)
        context.breakers.placed(job.node.id, time.monotonic())
    row = _row_of(job)
    try:
        if time.monotonic() - started > HOLD_TO_RECORD_S:
            raise StoreUnavailable
        await context.writer.create(row)
    except (DatabaseUnavailable, StoreUnavailable) as failed:
        context.spawn(forget(context, row))
        raise StoreUnavailable from failed
    except asyncio.CancelledError:
        context.spawn(end_unread(context, job, None))
        raise
    return job


def _row_of(job: OpenJob) -> NewJob:
    asked, caller = job.asked, job.placed.caller
    return NewJob(
        id=job.id, user=caller.user, username=caller.username, key=caller.key, kind=asked.kind, model=asked.model,
        node=job.node.id if job.node else None, held=job.placed.held, request=request_text(asked), terms=terms_text(asked, job.placed),
        why=decisions.text_of(job.decisions), is_sync=job.is_sync,
    )  # fmt: skip

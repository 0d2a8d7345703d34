"""How a job ends, and what is owed for it: written once, guarded by the driver's name, then settled in the background.

What a database that does not answer keeps from being written is written later: a job is never left open because of it.
"""

import asyncio
from dataclasses import replace

import structlog

from cluster.errors import ClusterError
from cluster.jobs import End, EndReason, Event, Usage
from cluster.nodes import Node
from ledger.client import Outcome, job_cost
from serve_app import decisions
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.errors import DeliveryBroken, StoreUnavailable
from serve_app.job import Finished, OpenJob, shares_text
from serve_app.receipts import receipt_text
from serve_app.settlement import GOODWILL, VOID, VOID_RETRYABLE, capture_of
from serve_app.store.answers import marks_of
from serve_app.store.records import Finish, JobState, NewJob, Owed
from serve_app.tracing.steps import Fact

log = structlog.get_logger()
CANCELED = "Canceled by the consumer."
USAGE_LIMIT_S = 5.0
PATIENT_S = 15.0
WRITE_AGAIN_S = 1.0
WRITE_LIMIT_S = 600.0  # then the hold has expired by itself


def _finish_of(
    job: OpenJob, state: JobState, owed: str, cost: int, error: str | None, usage: Usage | None = None, *, is_incomplete: bool
) -> Finish:
    node, attempt = job.served_by
    return Finish(
        id=job.id, node=node, attempt=attempt, state=state, is_incomplete=is_incomplete, prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None, counted_by=usage.counted_by if usage else None, owed=owed, cost=cost, error=error,
        result=job.text or None, marks=marks_of(job.events) if job.events else None, served=shares_text(job.shares),
        why=decisions.text_of(job.decisions) if len(job.decisions) > 1 else None, weights=job.weights or None,
    )  # fmt: skip


def _cost(job: OpenJob, outcome: Outcome, usage: Usage) -> int:
    return job_cost(job.placed.price, job.placed.held, outcome, usage.prompt_tokens, usage.completion_tokens)


async def succeed(context: ServeContext, job: OpenJob, end: End) -> Finished:
    """End a job well, or as its consumer canceled it.

    Raises:
        StoreUnavailable: It is not recorded yet; it will be.
        DeliveryBroken: Another driver has ended the job otherwise.
    """
    outcome: Outcome = "canceled" if end.reason is EndReason.CANCELED else "succeeded"
    state = JobState.SUCCEEDED if outcome == "succeeded" else JobState.CANCELED
    usage = end.usage
    is_free = outcome == "canceled" and not job.has_text  # nothing delivered: nothing charged
    owed, cost = (VOID, 0) if is_free else (capture_of(outcome), _cost(job, outcome, usage))
    finish = _finish_of(job, state, owed, cost, None if outcome == "succeeded" else CANCELED, usage, is_incomplete=False)
    if outcome == "succeeded":
        finish = replace(finish, result=job.text, receipt=receipt_text(end))  # also an empty answer
    if not await _write_patiently(context, job, finish):
        await _require_same_end(context, job, state)
    elif outcome == "succeeded":
        _have_checked(context, job, cost)
    return Finished(
        reason=end.reason, prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, counted_by=usage.counted_by, cost=finish.cost
    )  # fmt: skip


def _have_checked(context: ServeContext, job: OpenJob, cost: int) -> None:
    """Let an answer be audited, or a canary follow it, where chance says so."""
    if context.audits:
        context.audits.note(job, cost)
    if context.canaries:
        context.canaries.note(job)


async def _require_same_end(context: ServeContext, job: OpenJob, state: JobState) -> None:
    """See that whoever took the job over ended it in the same way, with the same answer.

    Raises:
        DeliveryBroken: It was not.
        StoreUnavailable: Nobody can say.
    """
    try:
        record = await context.store.find(job.id)
    except DatabaseUnavailable as silent:
        raise StoreUnavailable from silent
    if record is None or record.state is not state or (record.result or "") != job.text:
        raise DeliveryBroken(job.name, "another part of the platform took the job over")


async def fail(context: ServeContext, job: OpenJob, reason: str, *, retryable: bool) -> None:
    """End a job that delivered nothing: it costs nothing."""
    job.is_refused = not retryable
    owed = VOID_RETRYABLE if retryable else VOID
    await _write_in_time(context, job, _finish_of(job, JobState.FAILED, owed, 0, reason, is_incomplete=False))


async def break_off(context: ServeContext, job: OpenJob, reason: str) -> None:
    """End a job that broke after its beginning was delivered: delivered tokens are charged, the flat tariff is not."""
    usage = Usage(prompt_tokens=0, completion_tokens=job.delivered_tokens, counted_by="provider")
    finish = _finish_of(job, JobState.FAILED, capture_of("incomplete"), _cost(job, "incomplete", usage), reason, usage, is_incomplete=True)
    await _write_in_time(context, job, finish)


async def end_unread(context: ServeContext, job: OpenJob, node: Node | None) -> None:
    """The consumer left: stop the node, then charge what was delivered (nothing delivered: nothing charged)."""
    counted = await _stop(context, job, node)
    if not job.has_text:
        await _write_in_time(context, job, _finish_of(job, JobState.CANCELED, VOID, 0, CANCELED, is_incomplete=False))
        return
    prompt, by = (counted.prompt_tokens, counted.counted_by) if counted else (0, "provider")
    usage = Usage(prompt_tokens=prompt, completion_tokens=job.delivered_tokens, counted_by=by)
    finish = _finish_of(job, JobState.CANCELED, capture_of("canceled"), _cost(job, "canceled", usage), CANCELED, usage, is_incomplete=False)
    await _write_in_time(context, job, finish)


async def give_up(context: ServeContext, job: OpenJob, *, has_started: bool) -> None:
    """End a job that lost its driver and whose consumer did not come back: it costs nothing, and who served it is paid by the platform."""
    usage = await _stop(context, job, job.node)
    reason = "The platform lost this job while it ran. It costs nothing."
    owed = GOODWILL if usage and usage.completion_tokens else VOID
    finish = _finish_of(job, JobState.FAILED, owed, 0, reason, usage, is_incomplete=has_started)
    await _write_in_time(context, job, finish)


async def forget(context: ServeContext, row: NewJob) -> None:
    """End a job of which nobody knows whether it was recorded; its hold goes back."""
    context.writer.live.discard(row.id)
    loop = asyncio.get_running_loop()
    until = loop.time() + WRITE_LIMIT_S
    while loop.time() < until:
        try:
            await context.store.bury(row, context.writer.driver)
        except DatabaseUnavailable:
            await asyncio.sleep(WRITE_AGAIN_S)
            continue
        owed = Owed(id=row.id, what=VOID_RETRYABLE, prompt_tokens=0, completion_tokens=0, counted_by="provider", node="", attempt=1)
        await context.settlement.settle(owed)
        return


# --- writing --------------------------------------------------------------------------------------------------------------------------


async def _write_patiently(context: ServeContext, job: OpenJob, finish: Finish) -> bool:
    """Commit the end of an answer that the consumer has already: it is worth waiting for a database that is away for a moment.

    Raises:
        StoreUnavailable: It took too long; it is written when the database answers again.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENT_S
    while True:
        try:
            return await _write(context, job, finish)
        except DatabaseUnavailable as silent:
            if loop.time() < until:
                await asyncio.sleep(WRITE_AGAIN_S)
                continue
            context.spawn(_write_at_last(context, job, finish))
            raise StoreUnavailable from silent


async def _write_in_time(context: ServeContext, job: OpenJob, finish: Finish) -> None:
    """Commit an end, then settle in the background; when the database does not answer, later."""
    try:
        await _write(context, job, finish)
    except DatabaseUnavailable:
        log.warning("end_written_later", job=job.name)
        context.spawn(_write_at_last(context, job, finish))


async def _write_at_last(context: ServeContext, job: OpenJob, finish: Finish) -> None:
    """Write an end whenever the database answers again."""
    loop = asyncio.get_running_loop()
    until = loop.time() + WRITE_LIMIT_S
    while loop.time() < until:
        await asyncio.sleep(WRITE_AGAIN_S)
        try:
            await _write(context, job, finish)
        except DatabaseUnavailable:
            continue
        return
    log.error("end_not_written", job=job.name)
    context.writer.live.discard(job.id)


async def _write(context: ServeContext, job: OpenJob, finish: Finish) -> bool:
    """Commit an end, then settle in the background; False: another driver has ended the job.

    Raises:
        DatabaseUnavailable: The outcome is unknown.
    """
    with context.traces.step(job.id, "end"):
        is_ours = await context.writer.finish(finish)
    if not is_ours:
        log.warning("job_ended_by_another", job=job.name)
        return False
    context.traces.whole(job.id, job.started_at, is_failed=finish.state is JobState.FAILED, **_facts_of(job, finish))
    context.figures.note_end(finish, is_sync=job.is_sync, is_refused=job.is_refused, waited_s=job.waited_s, first_token_s=job.first_token_s)
    _settle(context, job, finish)
    return True


def _facts_of(job: OpenJob, finish: Finish) -> dict[str, Fact]:
    """Tell what a trace says of a whole job."""
    return {
        "job": job.name, "model": job.asked.model, "state": finish.state.name.lower(), "node": finish.node or "",
        "attempts": finish.attempt, "completion_tokens": finish.completion_tokens or 0,
    }  # fmt: skip


def _settle(context: ServeContext, job: OpenJob, finish: Finish) -> None:
    owed = Owed(
        id=job.id, what=finish.owed or VOID, prompt_tokens=finish.prompt_tokens or 0, completion_tokens=finish.completion_tokens or 0,
        counted_by=finish.counted_by or "provider", node=finish.node or "", attempt=finish.attempt, served=finish.served,
    )  # fmt: skip
    context.spawn(context.settlement.settle(owed))


# --- the node -------------------------------------------------------------------------------------------------------------------------


async def _stop(context: ServeContext, job: OpenJob, node: Node | None) -> Usage | None:
    """Cancel what runs on a node and ask what it counted, briefly."""
    if node is None:
        return None
    await context.nodes.cancel(node.url, job.name, job.number)

    async def read() -> Event | None:
        last: Event | None = None
        async for event in context.nodes.attach(node.url, job.name, job.number, 0, node=node.id):
            last = event
        return last

    try:
        async with asyncio.timeout(USAGE_LIMIT_S):
            last = await read()
    except (ClusterError, TimeoutError):
        return None
    return last.usage if isinstance(last, End) else None

"""Drives a job: attempt by attempt, until it ended or there is nothing left to try. The one retry loop of the platform (faults reference 2.2).

Before the first token another node takes over freely; after it one that has the same weights goes on in the middle of the answer, once per job,
where that is possible (docs/concepts/continuation.md); else the job ends `incomplete`. Whatever happens to the reader, the job ends once.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import assert_never

import structlog

from cluster.errors import (
    AttemptSuperseded,
    ClusterError,
    ClusterUnreachable,
    JobTimedOut,
    NoCapacity,
    NodeBusy,
    NodeLost,
    PoisonRequest,
    RuntimeFailed,
    RuntimeRefused,
    TooManyFailures,
)
from cluster.jobs import Admitted, Beat, End, EndReason, Fail, Text, Usage
from cluster.nodes import Node
from cluster.poison import CRASHES
from cluster.queue import Wait
from serve_app.attempts import attempt_of, events_of
from serve_app.canceling import JobCanceled, require_canceled, require_wanted, unless_canceled
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.decisions import decision_of
from serve_app.ends import break_off, end_unread, fail, succeed
from serve_app.errors import DeliveryBroken, StoreUnavailable
from serve_app.job import Finished, OpenJob, Share, digest_of, shares_text
from serve_app.placing import placement_of
from serve_app.store.records import Progress

log = structlog.get_logger()
BUSY_LIMIT = 20
BUSY_PAUSE_S = 1.0  # then, for a job that has time
MOST_DECISIONS = 10  # that are kept of one job
TOO_LARGE = "too_large"  # for this node, whenever it is asked
NOT_TAKEN = "No node took the job in time."
LONGEST_PAUSE_S = 4.0  # before the only node is tried again

Driven = AsyncGenerator[Text | Beat | Finished, None]


async def drive(context: ServeContext, job: OpenJob) -> Driven:
    """Run the job; yield its text, beats while it is silent, and at last `Finished`, only after the end is committed.

    Closing the generator before its end cancels the job: what was delivered is charged. A job that is canceled otherwise
    (`serve_app/canceling.py`) ends with `Finished` too, and says so.

    Raises:
        NoCapacity: No node took it in time; the hold is given back.
        RuntimeRefused: The request is to blame; the hold is given back.
        DeliveryBroken: It broke off after the first token; the job is incomplete.
        ClusterError: It failed before the first token; the hold is given back.
        StoreUnavailable: The end could not be recorded yet.
    """
    has_ended = False
    context.driven[job.id] = job
    try:
        while True:
            try:
                require_wanted(job)
                job.node = node = job.node or await _next_node(context, job)
                end: End | None = None
                with context.traces.step(job.id, "attempt", node=node.id, attempt=job.number, model=job.asked.model):
                    async with aclosing(_attempt(context, job, node)) as events:
                        async for event in events:
                            if isinstance(event, End):
                                end = event
                                break
                            yield event
                assert end is not None  # else it raised
                _note_end(context, job)
                finished = await succeed(context, job, end)
                has_ended = True
                yield finished
                return
            except NodeBusy as busy:
                await _after_busy(context, job, busy)
            except (NodeLost, RuntimeFailed, JobTimedOut) as failed:
                await _after_failure(context, job, failed)
            except JobCanceled:
                finished = await succeed(context, job, _end_of_canceled(job))
                has_ended = True
                yield finished
                return
    except (asyncio.CancelledError, GeneratorExit):
        if not has_ended:
            context.spawn(end_unread(context, job, job.node))
        raise
    except (DeliveryBroken, StoreUnavailable):
        raise
    except Exception as failed:
        told = await asyncio.shield(context.spawn(_end_badly(context, job, failed)))  # also when the client leaves just now
        if told is failed:
            raise
        raise told from failed
    finally:
        context.driven.pop(job.id, None)


def _end_of_canceled(job: OpenJob) -> End:
    """Write the end of a job that is canceled while no node runs it: what was delivered before counts."""
    usage = Usage(prompt_tokens=0, completion_tokens=job.delivered_tokens, counted_by="provider")
    return End(seq=len(job.events), reason=EndReason.CANCELED, usage=usage)


async def _end_badly(context: ServeContext, job: OpenJob, failed: Exception) -> Exception:
    """End a job that cannot go on, also by a defect of ours; answer what its consumer is told."""
    if not isinstance(failed, ClusterError | DatabaseUnavailable):
        log.error("drive_failed", job=job.name, exc_info=failed)
    if job.has_text:
        await break_off(context, job, str(failed))
        return DeliveryBroken(job.name, str(failed))
    reason = NOT_TAKEN if isinstance(failed, NoCapacity) and not job.is_sync else str(failed)
    await fail(context, job, reason, retryable=not isinstance(failed, RuntimeRefused | PoisonRequest))
    return StoreUnavailable() if isinstance(failed, DatabaseUnavailable) else failed


# --- one attempt ----------------------------------------------------------------------------------------------------------------------


async def _attempt(context: ServeContext, job: OpenJob, node: Node) -> AsyncGenerator[Text | Beat | End, None]:
    """Run one attempt on one node to its end, which comes last, or attach to the one that a lost driver began there.

    Raises:
        NodeBusy: It refused before starting.
        NodeLost: It broke, or the node failed.
        RuntimeFailed: Its runtime failed.
        RuntimeRefused: The request is to blame.
    """
    attaches, job.attaches = job.attaches, False
    try:
        async with aclosing(events_of(context, job, node, attempt_of(context, job, node), attaches=attaches)) as events:
            async for event in events:
                if event.seq != len(job.events):
                    raise NodeLost(node.id, "its log has a gap")
                match event:
                    case Text() | Beat():
                        job.note(event)
                        yield event
                    case Admitted():
                        job.note(event)
                        if job.cancel_wanted.is_set():  # the word to the node may have come before the attempt did
                            context.spawn(context.nodes.cancel(node.url, job.name, job.number))
                        context.writer.running(Progress(id=job.id, attempt=job.number, node=node.id, is_running=True))
                    case End():
                        await require_canceled(context, job, node, event.reason)
                        yield event
                        return
                    case Fail():
                        raise _failure_of(event, node)
                    case _:
                        assert_never(event)
    except AttemptSuperseded as superseded:
        raise NodeLost(node.id, "it knows a newer attempt") from superseded
    raise NodeLost(node.id, "its answer ended without an end")


def _failure_of(event: Fail, node: Node) -> ClusterError:
    if event.is_request_fault:
        return RuntimeRefused(event.status, event.detail)
    if event.status == 504:
        return NodeLost(node.id, event.detail)
    return RuntimeFailed(event.status, event.detail)


async def _next_node(context: ServeContext, job: OpenJob) -> Node:
    """Find a node for the next try: at once when nobody waits, else through the Dispatcher's queue; write it down before it is used.

    Raises:
        NoCapacity: None came free in time.
        NodeBusy: It may not be used any more.
        NodeLost: Another driver took the job over.
        JobCanceled: It is not wanted any more.
        DatabaseUnavailable: The row could not be written.
    """
    wanted = placement_of(
        context,
        job.asked,
        job.placed.caller,
        excluded=frozenset(job.excluded),
        unfit=job.unfit,
        weights=job.weights if job.has_text else None,
    )
    wait = Wait(job=job.name, consumer=job.placed.caller.user, request=wanted, is_async=not job.is_sync)
    if job.busy:
        context.view.put_back(wait)
    began = time.monotonic()
    try:
        with context.traces.step(job.id, "wait", attempt=job.number):
            node = await unless_canceled(job, asyncio.create_task(context.view.wait_for_slot(wait, _patience_s(context, job))))
    finally:
        job.waited_s += time.monotonic() - began
    if node.id in context.feed.closed_to(job.placed.caller.user):  # banned or paused while the job waited
        raise NodeBusy(node.id, "closed to this consumer", 0)
    job.decisions = [*job.decisions, decision_of(wanted, context.view.snapshot, job.number, node.id)][-MOST_DECISIONS:]
    # Written before it is used: it fences off whatever the last attempt may still say, and who adopts the job must find where it runs.
    step = Progress(id=job.id, attempt=job.number, node=node.id, is_running=False, served=shares_text(job.shares))
    if not await context.writer.raise_attempt(step):
        raise NodeLost(node.id, "another driver took the job over")
    return node


def _patience_s(context: ServeContext, job: OpenJob) -> float:
    if job.lost_at is not None:
        return max(0.1, job.lost_at + context.limits.continue_s - time.monotonic())
    return context.settings.node_wait_s if job.is_sync else max(0.1, context.limits.async_wait_s - job.waited_s)


# --- failures -------------------------------------------------------------------------------------------------------------------------


async def _after_busy(context: ServeContext, job: OpenJob, busy: NodeBusy) -> None:
    """A busy node started nothing: another candidate, same number. A job that runs by itself takes its time.

    Raises:
        NoCapacity: It happened too often.
    """
    job.busy += 1
    job.node = None
    if busy.reason == TOO_LARGE:
        job.too_large_for.add(busy.node)
    if job.busy <= BUSY_LIMIT:
        return
    if job.is_sync or time.monotonic() - job.started_at > context.limits.async_wait_s:
        raise NoCapacity(job.asked.model, (f"{busy.node} is {busy.reason}",), 5)
    await _pause(job, BUSY_PAUSE_S)


async def _pause(job: OpenJob, seconds: float) -> None:
    """Wait, unless the job is not wanted any more."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await job.cancel_wanted.wait()


async def _after_failure(context: ServeContext, job: OpenJob, failed: ClusterError) -> None:
    """Prepare the next try.

    Raises:
        ClusterError: The failure, when there is none.
    """
    if job.node is None:
        raise failed
    if job.cancel_wanted.is_set():  # it broke while it was stopped
        return
    job.failures += 1
    log.info("attempt_failed", job=job.name, attempt=job.number, node=job.node.id, reason=str(failed))
    context.figures.broken_attempts[type(failed).__name__] += 1
    context.spawn(context.counts.note_broken(job.node.id, job.asked.model, context.writer.driver))
    _note_failure(context, job, job.node.id, failed)
    now = time.monotonic()
    if not (_may_continue(context, job, now) if job.has_text else _may_try_again(context, job, now)):
        raise failed
    if not context.retries.take():
        raise TooManyFailures(str(failed))
    if _others(context, job):
        job.excluded.add(job.node.id)
    else:  # the only node: give it a moment to come back
        await _pause(job, min(LONGEST_PAUSE_S, 0.5 * 2**job.failures) if job.lost_at is None else 0.5)
    job.number += 1
    job.node, job.busy = None, 0


def _may_try_again(context: ServeContext, job: OpenJob, now: float) -> bool:
    """Whether a job that has said nothing may have another attempt. What a lost driver delivered of one that it drove is not known."""
    if job.is_adopted and job.is_sync and not job.events:
        return False
    return job.failures < context.limits.attempts and now - job.started_at < context.limits.before_first_s + job.waited_s


def _may_continue(context: ServeContext, job: OpenJob, now: float) -> bool:
    """Whether another node may go on in the middle of the answer: once per job, within a few seconds, where the request allows it."""
    if job.lost_at is None:
        if not (context.settings.continues and job.asked.is_continuable and job.weights and _is_plain(job)):
            return False
        assert job.node is not None
        job.lost_at, job.shares = now, [Share(job.node.id, job.number, job.delivered_tokens)]
        return True
    return job.delivered_tokens == job.shares[-1].tokens and now - job.lost_at < context.limits.continue_s


def _is_plain(job: OpenJob) -> bool:
    """Whether the model thinks aloud: its thoughts are not part of what can be gone on from."""
    thinks = job.node is not None and any(model.name == job.asked.model and "thinking" in model.capabilities for model in job.node.models)
    return not thinks or job.asked.request.get("think") is False


def _others(context: ServeContext, job: OpenJob) -> bool:
    """Whether a node that may have the job, and has not failed it, has the model."""
    try:
        snapshot = context.view.snapshot
    except ClusterUnreachable:
        return False
    wanted = placement_of(context, job.asked, job.placed.caller)
    closed = job.excluded | job.unfit | wanted.closed | {job.node.id if job.node else ""}
    return any(
        id_ not in closed and (wanted.provider is None or id_ in wanted.provider) and snapshot.nodes[id_].is_healthy
        for id_ in snapshot.index.admitted(job.asked.model)
    )


def _note_failure(context: ServeContext, job: OpenJob, node: str, failed: ClusterError) -> None:
    """Remember where a job failed; a runtime that ended there may be the request's doing: that shows when another one ends too.

    Raises:
        PoisonRequest: It has.
    """
    job.failed_on.add(node)
    if isinstance(failed, RuntimeFailed) and failed.status == 0:
        job.crashed_on.add(node)
    if len(job.crashed_on) >= CRASHES:
        context.poison.add(digest_of(job.asked), time.monotonic())
        raise PoisonRequest


def _note_end(context: ServeContext, job: OpenJob) -> None:
    """A good end is good news of its node, and proves that those which had failed the same job did so by themselves.

    Nobody is struck for a job that fails everywhere: otherwise one consumer with a bad request could close a cluster.
    """
    now = time.monotonic()
    for node in job.failed_on - {job.node.id if job.node else ""}:
        context.breakers.failed(node, now)
    if job.node and context.breakers.succeeded(job.node.id):
        context.view.pardon(job.node.id)

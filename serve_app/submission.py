"""The use case: hold, place, record, run, relay, finish, settle (design section 2). Sync, stream and batch differ in who reads.

`open_job` takes a request as far as a recorded job; `drive` runs it and yields what the model says. Whatever happens to the reader, the
job ends once and is settled once.
"""

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from cluster.errors import (
    ClusterError,
    JobTimedOut,
    ModelUnavailable,
    NoCapacity,
    NodeBusy,
    NodeLost,
    PoisonRequest,
    RuntimeFailed,
    RuntimeRefused,
)
from cluster.jobs import Admitted, Attempt, Beat, Deadlines, End, EndReason, Event, Fail, JobKind, Text
from cluster.nodes import Node, Snapshot
from cluster.placement import PlacementRequest, choose
from cluster.poison import CRASHES
from cluster.queue import Wait
from ledger.client import Caller, HoldPlaced, Outcome, PlaceHold, Void, job_cost, job_id, new_hold_id
from serve_app import decisions
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.decisions import Decision, decision_of
from serve_app.errors import DeliveryBroken, RequestReplayed, StoreUnavailable
from serve_app.settlement import VOID, VOID_RETRYABLE, capture_of
from serve_app.store.jobs import Finish, JobState, NewJob, Owed, Progress

log = structlog.get_logger()
HOLD_TO_RECORD_S = 15.0  # later than this a hold may be taken for one without a job
BUSY_LIMIT = 20
NEAREST_NAMES = 3
MOST_DECISIONS = 10  # that are kept of one job


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What a consumer asks, in our words. `request` is in Ollama's form; `prompt_bytes` bounds the prompt's tokens."""

    kind: JobKind
    model: str
    request: dict[str, Any]
    max_tokens: int
    prompt_bytes: int
    capabilities: frozenset[str] = frozenset()
    idempotency_key: str | None = None
    digest: str | None = None


@dataclass(slots=True)
class OpenJob:
    """A recorded job on its way."""

    id: uuid.UUID
    asked: JobRequest
    placed: HoldPlaced
    node: Node | None
    number: int = 1
    texts: list[str] = field(default_factory=list)
    delivered_tokens: int = 0
    failures: int = 0
    failed_on: set[str] = field(default_factory=set)
    crashed_on: set[str] = field(default_factory=set)
    busy: int = 0
    excluded: set[str] = field(default_factory=set)
    decisions: list[Decision] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The job's id as text."""
        return job_id(self.id)

    @property
    def text(self) -> str:
        """What was delivered."""
        return "".join(self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The job's good end. `cost` in micro-credits."""

    reason: EndReason
    prompt_tokens: int
    completion_tokens: int
    counted_by: str
    cost: int


def placement_of(context: ServeContext, asked: JobRequest, caller: Caller, excluded: frozenset[str] = frozenset()) -> PlacementRequest:
    """Tell what placement must know."""
    return PlacementRequest(
        model=asked.model, tokens=asked.max_tokens, capabilities=asked.capabilities, excluded=excluded,
        closed=context.feed.closed_to(caller.user) | context.breakers.open(time.monotonic()), is_trusted_only=caller.privacy == "trusted",
    )  # fmt: skip


def require_model(name: str, snapshot: Snapshot) -> int:
    """Check that somebody offers a model; answer the longest context that it has anywhere.

    Raises:
        ModelUnavailable: Nobody does; with the nearest known names.
    """
    from difflib import get_close_matches  # noqa: PLC0415 - only on the way to a 404

    longest = 0
    names: set[str] = set()
    for node in snapshot.nodes.values():
        for model in node.models:
            names.add(model.name)
            if model.name == name:
                longest = max(longest, model.context_tokens)
    if not longest:
        raise ModelUnavailable(name, tuple(get_close_matches(name, sorted(names), NEAREST_NAMES, 0.3)))
    return longest


async def open_job(context: ServeContext, credential: str, asked: JobRequest) -> OpenJob:
    """Hold, place and record.

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
    snapshot = context.view.snapshot
    require_model(asked.model, snapshot)
    if context.poison.is_known(time.monotonic()) and context.poison.has(digest_of(asked), time.monotonic()):
        raise PoisonRequest
    started = time.monotonic()
    placed = await context.ledger.place_hold(
        PlaceHold.model_construct(
            op="place_hold", id=new_hold_id(), credential=credential, model=asked.model, prompt_tokens=asked.prompt_bytes, max_tokens=asked.max_tokens,
            ttl_s=int(context.limits.total_s), idempotency_key=asked.idempotency_key, request_digest=asked.digest,
        )
    )  # fmt: skip
    if placed.status == "exists":
        raise RequestReplayed(placed.id)
    wanted = placement_of(context, asked, placed.caller)
    job = OpenJob(placed.id, asked, placed, _place(context, wanted))
    job.decisions.append(decision_of(wanted, context.view.snapshot, 1, job.node.id if job.node else None))
    if job.node:
        context.view.note_placed(job.node.id)
        context.breakers.placed(job.node.id, time.monotonic())
    caller = placed.caller
    try:
        if time.monotonic() - started > HOLD_TO_RECORD_S:
            raise StoreUnavailable
        await context.writer.create(
            NewJob(
                id=job.id, user=caller.user, username=caller.username, key=caller.key, kind=asked.kind, model=asked.model,
                node=job.node.id if job.node else None, held=placed.held, request=json.dumps(asked.request | {"max_tokens": asked.max_tokens}),
                why=decisions.text_of(job.decisions),
            )
        )  # fmt: skip
    except (DatabaseUnavailable, StoreUnavailable) as failed:
        context.spawn(_give_back(context, job.id))
        raise StoreUnavailable from failed
    except asyncio.CancelledError:
        context.spawn(_end_unread(context, job, None))
        raise
    return job


def _place(context: ServeContext, wanted: PlacementRequest) -> Node | None:
    """Choose a node at once, unless somebody already waits for this model."""
    snapshot = context.view.snapshot
    if snapshot.waiting.get(wanted.model):
        return None
    return choose(wanted, snapshot, context.rng, context.view.taken)


async def _give_back(context: ServeContext, id_: uuid.UUID) -> None:
    """Void the hold of a job that was not recorded; if that fails too, the sweeper finds the hold."""
    try:
        await context.ledger.void(Void(id=id_, reason="not recorded", retryable=True))
    except Exception as failed:  # noqa: BLE001 - nothing depends on it
        log.info("hold_left_to_sweeper", hold=str(id_), reason=type(failed).__name__)


# --- run ------------------------------------------------------------------------------------------------------------------------------


async def drive(context: ServeContext, job: OpenJob) -> AsyncGenerator[Text | Beat | Finished, None]:
    """Run the job; yield its text, beats while it is silent, and at last `Finished`, only after the end is committed.

    Closing the generator before its end cancels the job: what was delivered is charged.

    Raises:
        NoCapacity: No node took it in time; the hold is given back.
        RuntimeRefused: The request is to blame; the hold is given back.
        DeliveryBroken: It broke off after the first token; the job is incomplete.
        ClusterError: It failed before the first token; the hold is given back.
        StoreUnavailable: The end could not be recorded.
    """
    try:
        while True:
            node = job.node or await _next_node(context, job)
            job.node = node
            try:
                async with aclosing(_attempt(context, job, node)) as events:
                    async for event in events:
                        if not isinstance(event, End):
                            yield event
                            continue
                        yield await _succeed(context, job, event)
                        return
            except NodeBusy as busy:
                _after_busy(context, job, busy)
            except (NodeLost, RuntimeFailed, JobTimedOut) as failed:
                await _after_failure(context, job, failed)
    except (asyncio.CancelledError, GeneratorExit):
        context.spawn(_end_unread(context, job, job.node))
        raise
    except (RuntimeRefused, PoisonRequest) as refused:
        await _fail(context, job, str(refused), retryable=False)
        raise
    except (ClusterError, DatabaseUnavailable) as failed:
        if job.texts:
            await _break_off(context, job, str(failed))
            raise DeliveryBroken(job.name, str(failed)) from failed
        await _fail(context, job, str(failed), retryable=True)
        if isinstance(failed, DatabaseUnavailable):
            raise StoreUnavailable from failed
        raise


async def _attempt(context: ServeContext, job: OpenJob, node: Node) -> AsyncGenerator[Text | Beat | End, None]:
    """Run one attempt on one node.

    Raises:
        NodeBusy: It refused before starting.
        NodeLost: It broke, or the node failed.
        RuntimeFailed: Its runtime failed.
        RuntimeRefused: The request is to blame.
    """
    asked = job.asked
    digest = next((model.digest for model in node.models if model.name == asked.model), "")
    limits = context.limits
    attempt = Attempt(
        job=job.name, number=job.number, node=node.id, kind=asked.kind, model=asked.model, model_digest=digest, request=asked.request,
        max_tokens=asked.max_tokens, deadlines=Deadlines(first_token_s=limits.first_token_s, idle_s=limits.idle_s, total_s=limits.total_s),
    )  # fmt: skip
    events = context.nodes.run(node.url, attempt)
    async for event in events:
        match event:
            case Text():
                job.texts.append(event.thinking + event.content)
                job.delivered_tokens += event.tokens
                yield event
            case Admitted():
                context.writer.running(Progress(id=job.id, attempt=job.number, node=node.id, is_running=True))
            case Beat():
                yield event
            case End():
                yield event
                return
            case Fail():
                raise _failure_of(event, node)
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
        DatabaseUnavailable: The row could not be written.
    """
    asked, excluded = job.asked, frozenset(job.excluded)
    caller = job.placed.caller
    wanted = placement_of(context, asked, caller, excluded)
    wait = Wait(job=job.name, consumer=caller.user, request=wanted)
    if job.busy:
        context.view.put_back(wait)
    node = await context.view.wait_for_slot(wait, context.settings.node_wait_s)
    job.decisions = [*job.decisions, decision_of(wanted, context.view.snapshot, job.number, node.id)][-MOST_DECISIONS:]
    if job.failures:
        # A raised number is written before it is used: it fences off whatever the last attempt may still say.
        if not await context.writer.raise_attempt(Progress(id=job.id, attempt=job.number, node=node.id, is_running=False)):
            raise NodeLost(node.id, "another driver took the job over")
    else:
        context.writer.running(Progress(id=job.id, attempt=job.number, node=node.id, is_running=False))
    return node


def _after_busy(context: ServeContext, job: OpenJob, busy: NodeBusy) -> None:
    """A busy node started nothing: another candidate, same number.

    Raises:
        NoCapacity: It happened too often.
    """
    job.busy += 1
    job.node = None
    if job.busy > BUSY_LIMIT:
        raise NoCapacity(job.asked.model, (f"{busy.node} is {busy.reason}",), 5)


async def _after_failure(context: ServeContext, job: OpenJob, failed: ClusterError) -> None:
    """Before the first token: another node, next number; after it, or after three: the end.

    Raises:
        ClusterError: The failure, when there is no next try.
    """
    job.failures += 1
    log.info("attempt_failed", job=job.name, attempt=job.number, reason=str(failed))
    assert job.node is not None
    _note_failure(context, job, job.node.id, failed)
    if job.texts or job.failures >= context.limits.attempts:
        raise failed
    others = [node for node in context.view.snapshot.nodes.values() if node.id not in job.excluded | {job.node.id} and node.is_healthy]
    if any(model.name == job.asked.model for node in others for model in node.models):
        job.excluded.add(job.node.id)
    else:
        await asyncio.sleep(min(4.0, 0.5 * 2**job.failures))  # the only node: give it a moment to come back
    job.number += 1
    job.node, job.busy = None, 0


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
    if job.node:
        context.breakers.succeeded(job.node.id)


def digest_of(asked: JobRequest) -> str:
    """Digest what a runtime is given."""
    return hashlib.sha256(json.dumps([asked.kind, asked.model, asked.request], sort_keys=True).encode(errors="surrogatepass")).hexdigest()


# --- ends -----------------------------------------------------------------------------------------------------------------------------


async def _succeed(context: ServeContext, job: OpenJob, end: End) -> Finished:
    _note_end(context, job)
    usage = end.usage
    outcome: Outcome = "canceled" if end.reason is EndReason.CANCELED else "succeeded"
    cost = job_cost(job.placed.price, job.placed.held, outcome, usage.prompt_tokens, usage.completion_tokens)
    finish = Finish(
        id=job.id, state=JobState.SUCCEEDED if outcome == "succeeded" else JobState.CANCELED, is_incomplete=False, prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens, counted_by=usage.counted_by, owed=capture_of(outcome), cost=cost, error=None, result=job.text,
    )  # fmt: skip
    await _finish(context, job, finish)
    return Finished(
        reason=end.reason,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        counted_by=usage.counted_by,
        cost=cost,
    )


async def _finish(context: ServeContext, job: OpenJob, finish: Finish) -> None:
    """Commit a job's end, then settle in the background.

    Raises:
        DatabaseUnavailable: The end is not recorded; the sweeper ends the job when our lease is over.
    """
    if len(job.decisions) > 1:
        finish = replace(finish, why=decisions.text_of(job.decisions))
    if not await context.writer.finish(finish):
        log.warning("job_ended_by_another", job=job.name)
        return
    if finish.owed:
        owed = Owed(
            id=job.id, what=finish.owed, prompt_tokens=finish.prompt_tokens or 0, completion_tokens=finish.completion_tokens or 0,
            counted_by=finish.counted_by or "provider", node=job.node.id if job.node else "", attempt=job.number,
        )  # fmt: skip
        context.spawn(context.settlement.settle(owed))


async def _fail(context: ServeContext, job: OpenJob, reason: str, *, retryable: bool) -> None:
    """End a job that delivered nothing: it costs nothing."""
    finish = Finish(
        id=job.id, state=JobState.FAILED, is_incomplete=False, prompt_tokens=None, completion_tokens=None, counted_by=None,
        owed=VOID_RETRYABLE if retryable else VOID, cost=0, error=reason, result=None,
    )  # fmt: skip
    try:
        await _finish(context, job, finish)
    except DatabaseUnavailable:
        log.warning("job_left_to_sweeper", job=job.name)


async def _break_off(context: ServeContext, job: OpenJob, reason: str) -> None:
    """End a job that broke after its beginning was delivered: delivered tokens are charged, the flat tariff is not."""
    tokens = job.delivered_tokens
    cost = job_cost(job.placed.price, job.placed.held, "incomplete", 0, tokens)
    finish = Finish(
        id=job.id, state=JobState.FAILED, is_incomplete=True, prompt_tokens=0, completion_tokens=tokens, counted_by="provider",
        owed=capture_of("incomplete"), cost=cost, error=reason, result=job.text,
    )  # fmt: skip
    try:
        await _finish(context, job, finish)
    except DatabaseUnavailable:
        log.warning("job_left_to_sweeper", job=job.name)


async def _end_unread(context: ServeContext, job: OpenJob, node: Node | None) -> None:
    """The consumer left: stop the node, then charge what was delivered (nothing delivered: nothing charged)."""
    prompt_tokens, counted_by = 0, "provider"
    if node is not None:
        await context.nodes.cancel(node.url, job.name, job.number)
        usage = await _usage_of_canceled(context, job, node)
        if usage is not None:
            prompt_tokens, counted_by = usage.usage.prompt_tokens, usage.usage.counted_by
    has_delivered = bool(job.texts)
    cost = job_cost(job.placed.price, job.placed.held, "canceled", prompt_tokens, job.delivered_tokens) if has_delivered else 0
    finish = Finish(
        id=job.id, state=JobState.CANCELED, is_incomplete=False, prompt_tokens=prompt_tokens if has_delivered else None,
        completion_tokens=job.delivered_tokens if has_delivered else None, counted_by=counted_by if has_delivered else None,
        owed=capture_of("canceled") if has_delivered else VOID, cost=cost, error="Canceled by the consumer.", result=job.text or None,
    )  # fmt: skip
    try:
        await _finish(context, job, finish)
    except DatabaseUnavailable:
        log.warning("job_left_to_sweeper", job=job.name)


async def _usage_of_canceled(context: ServeContext, job: OpenJob, node: Node) -> End | None:
    """Ask the node what it counted, briefly."""

    async def read() -> Event | None:
        last: Event | None = None
        async for event in context.nodes.attach(node.url, job.name, job.number, 0, node=node.id):
            last = event
        return last

    try:
        last = await asyncio.wait_for(read(), 5)
    except (ClusterError, TimeoutError):
        return None
    return last if isinstance(last, End) else None

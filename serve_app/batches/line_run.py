"""Runs one line of a batch: one job, held, recorded and charged as any other, under a key of the line's own.

Whoever runs the line again, because its runner was lost, finds the job that is there: nothing runs twice, nobody pays twice.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog

from cluster.dialects.answer import Ending, Head
from cluster.dialects.asked import Asked
from cluster.dialects.table import DIALECTS
from cluster.errors import InvalidRequest, ModelUnavailable
from cluster.jobs import EndReason, Text
from ledger.client import NotAuthenticated, credits_text, job_id
from serve_app.api.answering import failure_of, finished_of
from serve_app.asking import job_request_of
from serve_app.batches.lines import WrongLine, answered, not_run, read_line, refused, request_key
from serve_app.context import ServeContext
from serve_app.db import DatabaseUnavailable
from serve_app.driving import drive
from serve_app.errors import AnswerCanceled, RequestReplayed
from serve_app.job import Finished, JobRequest, OpenJob
from serve_app.problems import KNOWN_ERRORS, problem_of
from serve_app.store.answers import told_of
from serve_app.store.batches import Batch, BatchLine, LineEnd
from serve_app.store.records import JobRecord, JobState
from serve_app.submission import open_job

log = structlog.get_logger()
LATER = frozenset({429, 503})  # nothing is wrong with the line: there was no room for it, or a part did not answer
LOOK_S = 0.5  # at a job that another replica drives
PAUSE_S = 2  # before another look at a job that failed before it said anything: its hold is on its way back
MODEL_WAIT_S = 120.0  # a model that nobody offers may be back soon: so long a batch waits for it, then its lines fail
MODEL_LOOK_S = 5.0
TRIES = 5  # so often a failed job is looked at again, then it is what the line is told


class PutOff(Exception):
    """There is no room for the line now; try again after so many seconds. `is_replay`: its last job failed, and its key may be free soon."""

    def __init__(self, seconds: float, *, is_replay: bool = False) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        self.is_replay = is_replay


@dataclass(frozen=True, slots=True)
class BatchRun:
    """A batch that this replica runs. `missing`: models that nobody offered at the last look, and since when (monotonic seconds)."""

    context: ServeContext
    batch: Batch
    credential: str = field(repr=False)
    missing: dict[str, float] = field(default_factory=dict)

    def waits_for(self, model: str) -> bool:
        """Whether a model that nobody offers is still waited for."""
        now = time.monotonic()
        return now - self.missing.setdefault(model, now) < MODEL_WAIT_S


@dataclass(frozen=True, slots=True)
class Answer:
    """How a job answered."""

    job: uuid.UUID
    texts: list[Text]
    finished: Finished
    created: float


Notes = Callable[[uuid.UUID | None], Awaitable[None]]
Answers = Callable[[Asked, dict[str, Any]], Awaitable[Answer]]


async def run_line(run: BatchRun, line: BatchLine, note: Notes, tries: int) -> LineEnd:
    """Run a line to its end; `note` is told its job as soon as there is one, `tries` counts how often its last job was found failed.

    Raises:
        PutOff: There is no room for it now.
        NotAuthenticated: The batch's credential is not good any more.
    """
    return await _end_of(run.context, run.batch, line, partial(_answer, run, line, note, tries))


async def follow_line(context: ServeContext, batch: Batch, line: BatchLine) -> LineEnd | None:
    """Wait for the end of a line whose job was begun by a runner that was lost; None: there is no such job.

    Raises:
        DatabaseUnavailable: Nobody can say now.
    """
    record = await _ended(context, line.job) if line.job else None
    if record is None:
        return None

    async def answer(asked: Asked, body: dict[str, Any]) -> Answer:
        return _answer_of(record)

    return await _end_of(context, batch, line, answer)


async def _end_of(context: ServeContext, batch: Batch, line: BatchLine, answer_to: Answers) -> LineEnd:
    """Write a line's end: its answer, or what the route by itself would refuse it with."""
    dialect = DIALECTS[batch.endpoint]
    try:
        body = read_line(line.content, batch.endpoint).body
        asked = dialect.read(body)
        if asked.wants_stream:
            raise InvalidRequest("A batch answers whole: leave `stream` out.", "stream")
        answer = await answer_to(asked, body)
    except (NotAuthenticated, PutOff):
        raise
    except WrongLine as wrong:
        return not_run(batch.id, line.number, line.custom_id, wrong.code, wrong.says)
    except _JobRefused as failed:
        return _failed(batch, line, failed.job, failed.reason)
    except Exception as failed:  # noqa: BLE001 - whatever it was, the line has an end
        return _failed(batch, line, line.job, failed)
    name = job_id(answer.job)
    head = Head(job=name, model=asked.model or context.settings.default_model, created=int(answer.created), now=lambda: datetime.now(UTC))
    said = dialect.writer(asked, head).whole(answer.texts, _ending(answer.finished))
    return answered(batch.id, line.number, line.custom_id, name, said)


def _failed(batch: Batch, line: BatchLine, job: uuid.UUID | None, failed: Exception) -> LineEnd:
    """Tell how a line failed.

    Raises:
        PutOff: It did not: it is to be tried again.
    """
    if not isinstance(failed, KNOWN_ERRORS):
        log.error("batch_line_failed", batch=str(batch.id), line=line.number, exc_info=failed)
    refusal = problem_of(failed)
    if refusal.status in LATER:
        raise PutOff(float(refusal.more.get("retry_after_s", PAUSE_S))) from failed
    return refused(batch.id, batch.endpoint, line.number, line.custom_id, job_id(job) if job else None, refusal)


def _ending(finished: Finished) -> Ending:
    return Ending(
        reason=finished.reason, prompt_tokens=finished.prompt_tokens, completion_tokens=finished.completion_tokens, counted_by=finished.counted_by,
        cost=credits_text(finished.cost),
    )  # fmt: skip


class _JobRefused(Exception):
    """The line's job failed."""

    def __init__(self, job: uuid.UUID, reason: Exception) -> None:
        super().__init__(job, reason)
        self.job = job
        self.reason = reason


async def _answer(run: BatchRun, line: BatchLine, note: Notes, tries: int, asked: Asked, body: dict[str, Any]) -> Answer:
    """Get the line's answer: from the job that was begun for it, or from a new one.

    Raises:
        PutOff: There is no room for it, or nobody offers its model now.
        _JobRefused: The job failed.
    """
    context = run.context
    if line.job is not None and (record := await _ended(context, line.job)) is not None:
        return _answer_of(record)
    try:
        request = job_request_of(context, asked, idempotency_key=request_key(run.batch.id, line.number), body=body)
    except ModelUnavailable as absent:
        if run.waits_for(absent.model):
            raise PutOff(MODEL_LOOK_S) from absent
        raise
    run.missing.pop(request.model, None)
    running = context.spawn(_run(run, request, note))
    outcome = await asyncio.shield(running)  # what was begun runs to its end, whatever becomes of this runner
    if isinstance(outcome, RequestReplayed):
        return await _answer_of_earlier(context, outcome.job, tries)
    if isinstance(outcome, Exception):
        raise outcome
    if outcome.finished.reason is EndReason.CANCELED:  # by its owner, beside the batch
        raise _JobRefused(outcome.job, AnswerCanceled(job_id(outcome.job), outcome.finished.cost))
    return outcome


async def _run(run: BatchRun, request: JobRequest, note: Notes) -> Answer | Exception:
    """Open a job and drive it to its end; a failure is answered, for nobody may be here any more to catch it."""
    try:
        job = await open_job(run.context, run.credential, replace(request, is_sync=False, is_batch=True))
    except Exception as failed:  # noqa: BLE001
        return failed
    with suppress(DatabaseUnavailable):  # what cannot be noted is found again by its key
        await note(job.id)
    try:
        return await _driven(run.context, job)
    except Exception as failed:  # noqa: BLE001
        return _JobRefused(job.id, failed)


async def _driven(context: ServeContext, job: OpenJob) -> Answer:
    texts: list[Text] = []
    async with aclosing(drive(context, job)) as events:
        async for event in events:
            if isinstance(event, Text):
                texts.append(event)
            elif isinstance(event, Finished):
                return Answer(job.id, texts, event, time.time())
    raise AssertionError("a job ends with Finished or an error")


async def _answer_of_earlier(context: ServeContext, job: uuid.UUID, tries: int) -> Answer:
    """Get the answer of the job that is there under the line's key.

    Raises:
        PutOff: There is none yet, or its hold is on its way back.
        _JobRefused: It failed.
    """
    record = await _ended(context, job)
    if record is None:  # held, and never recorded: the sweeper gives it back
        raise PutOff(PAUSE_S)
    if record.state is JobState.FAILED and not record.result and tries < TRIES:
        raise PutOff(PAUSE_S, is_replay=True)
    return _answer_of(record)


async def _ended(context: ServeContext, job: uuid.UUID) -> JobRecord | None:
    """Wait for the end of a job that another one drives; None: there is no such job."""
    while True:
        record = await context.store.find(job)
        if record is None or record.has_ended:
            return record
        await asyncio.sleep(LOOK_S)


def _answer_of(record: JobRecord) -> Answer:
    """Read the answer of a job that has ended.

    Raises:
        _JobRefused: It failed.
    """
    if record.state is not JobState.SUCCEEDED:
        raise _JobRefused(record.id, failure_of(record))
    texts = [text for text in told_of(record.result, record.marks) if text.content or text.thinking or text.tool_calls or text.embeddings]
    return Answer(record.id, texts, finished_of(record), record.created_at.timestamp())

"""The worker of one trusted node: counts its slots, runs attempts on its runtime, keeps their logs.

A plain class; `cluster/worker_actor.py` makes it a Ray actor and serves it by the node protocol. Slots are counted here, where they are, so
no race of drivers can oversubscribe a node.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import structlog

from cluster.attempt_log import MAX_TEXT_BYTES, AttemptLog, Coalescer
from cluster.errors import AttemptSuperseded, NodeBusy, RuntimeFailed, RuntimeRefused
from cluster.gpus import GpuReader
from cluster.jobs import Admitted, Attempt, Beat, End, EndReason, Fail, JobKind, Text, Usage
from cluster.limits import LIMITS, Limits
from cluster.nodes import Node, NodeKind, OfferedModel
from cluster.runtime.ollama import OllamaRuntime, RuntimeEnd

log = structlog.get_logger()
DEFAULT_SLOTS = 1
TICK_S = 0.5
PROMPT_OVERHEAD_TOKENS = 16  # per message: roles and separators of a chat template


@dataclass(slots=True, eq=False)
class Running:
    """One attempt on this node: its log, its task, and how readers are woken."""

    attempt: Attempt
    log: AttemptLog
    started_at: float
    grew: asyncio.Event
    task: asyncio.Task[None] | None = None
    last_text_at: float | None = None
    cancel_reason: str | None = None  # None: not canceled; else why

    def wake(self) -> None:
        """Tell all readers that the log grew."""
        self.grew.set()
        self.grew = asyncio.Event()


class Worker:
    """Slots, attempts and the runtime of one node."""

    def __init__(
        self, node_id: str, name: str, runtime: OllamaRuntime, gpus: GpuReader, *, slots: int | None = None, limits: Limits = LIMITS
    ) -> None:
        self.runtime = runtime
        self._gpus = gpus
        self._slots_set = slots
        self._limits = limits
        self.attempts: dict[tuple[str, int], Running] = {}
        self._newest: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.changed = asyncio.Event()
        self.node = Node(
            id=node_id, name=name, kind=NodeKind.TRUSTED, url="", slots=0, running=0, models=(), is_healthy=False, reason="starting",
        )  # fmt: skip

    async def start(self) -> None:
        """Look at the runtime and begin to watch."""
        await self.runtime.start()
        await self.refresh()
        self._tasks = [asyncio.create_task(self._watch_runtime()), asyncio.create_task(self._watch_attempts())]

    async def aclose(self) -> None:
        """Cancel everything."""
        running = [one.task for one in self.attempts.values() if one.task]
        for task in (*self._tasks, *running):
            task.cancel()
        await asyncio.gather(*self._tasks, *running, return_exceptions=True)
        await self.runtime.aclose()

    # --- the node as others see it ---------------------------------------------------------------------------------------------------

    def _set_node(self, **changes: Any) -> None:
        changed = replace(self.node, **changes)
        if changed != self.node:
            self.node = changed
            self.changed.set()
            self.changed = asyncio.Event()

    async def refresh(self) -> None:
        """Read the runtime's inventory and the GPUs; say whether the node is healthy."""
        try:
            found = await self.runtime.inventory()
        except (RuntimeFailed, RuntimeRefused) as failed:
            self._set_node(is_healthy=False, reason=str(failed))
            return
        slots = self._slots_set or found.slots or DEFAULT_SLOTS
        self._set_node(
            is_healthy=bool(found.models), reason="" if found.models else "the runtime has no model yet", slots=slots, models=found.models,
            runtime=f"{found.name} {found.version}", gpus=self._gpus.read(),
        )  # fmt: skip

    async def _watch_runtime(self) -> None:
        while True:
            await asyncio.sleep(self._limits.inventory_s if self.node.is_healthy else 1.0)
            try:
                await self.refresh()
            except Exception:
                log.exception("inventory_failed")

    def drain(self) -> None:
        """Take no new attempts; finish the running."""
        self._set_node(is_draining=True, reason="draining")

    # --- attempts --------------------------------------------------------------------------------------------------------------------

    def admit(self, attempt: Attempt) -> Running:
        """Take an attempt, or answer the one that runs already.

        Raises:
            NodeBusy: No slot, draining, or the model is not here; nothing was started.
            AttemptSuperseded: A newer attempt of the job is known.
        """
        known = self.find(attempt.job, attempt.number)
        if known:
            return known
        self._refuse_if_busy(attempt)
        self._supersede(attempt)
        now = time.monotonic()
        running = Running(attempt, AttemptLog(attempt.delivered, now), now, asyncio.Event())
        running.log.append(Admitted(seq=running.log.next_seq, node=self.node.id), now)
        self.attempts[attempt.job, attempt.number] = running
        self._newest[attempt.job] = attempt.number
        self._set_node(running=self.node.running + 1)
        running.task = asyncio.create_task(self._run(running))
        return running

    def _refuse_if_busy(self, attempt: Attempt) -> None:
        reason = None
        if self.node.is_draining:
            reason = "draining"
        elif not self.node.is_healthy:
            reason = self.node.reason
        elif self._model(attempt.model) is None:
            reason = f"no_model {attempt.model}"
        elif not self.node.free:
            reason = "busy"
        if reason:
            raise NodeBusy(self.node.id, reason, self.node.free)

    def _supersede(self, attempt: Attempt) -> None:
        """End older attempts of the same job: their lease is over."""
        for (job, number), running in self.attempts.items():
            if job == attempt.job and number < attempt.number:
                self._cancel(running, "superseded")

    def find(self, job: str, number: int) -> Running | None:
        """Look an attempt up.

        Raises:
            AttemptSuperseded: A newer one is known.
        """
        if self._newest.get(job, 0) > number:
            raise AttemptSuperseded(job, number)
        return self.attempts.get((job, number))

    def cancel(self, job: str, number: int) -> None:
        """Cancel an attempt; an unknown or ended one is fine."""
        if running := self.attempts.get((job, number)):
            self._cancel(running, "canceled")

    def _cancel(self, running: Running, reason: str) -> None:
        if running.log.ended_at is None and running.cancel_reason is None and running.task:
            running.cancel_reason = reason
            running.task.cancel()

    async def read(self, running: Running, from_seq: int) -> AsyncIterator[bytes]:
        """Yield the log's lines from a position on, joined as they come, until its end."""
        log_ = running.log
        log_.opened()
        at = from_seq
        try:
            while True:
                grew = running.grew
                if at < len(log_.lines):
                    lines = log_.lines[at:]
                    at += len(lines)
                    yield lines[0] if len(lines) == 1 else b"".join(lines)
                if log_.ended_at is not None and at >= len(log_.lines):
                    return
                if at >= len(log_.lines):
                    await grew.wait()
        finally:
            log_.closed(time.monotonic())

    def _model(self, name: str) -> OfferedModel | None:
        return next((model for model in self.node.models if model.name == name), None)

    # --- one attempt -------------------------------------------------------------------------------------------------------------------

    async def _run(self, running: Running) -> None:
        """Run an attempt to its one end: `end` or `fail`, whatever happens."""
        said = _Answer()
        end: End | Fail
        try:
            end = await self._answer(running, said)
        except asyncio.CancelledError:
            end = await self._end_of_canceled(running, said)
        except RuntimeRefused as refused:
            end = Fail(seq=0, status=refused.status, detail=refused.detail, is_request_fault=True)
        except RuntimeFailed as failed:
            end = Fail(seq=0, status=failed.status, detail=failed.detail)
            asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(self.refresh()))
        except Exception as broken:
            log.exception("attempt_failed", job=running.attempt.job)
            end = Fail(seq=0, status=500, detail=type(broken).__name__)
        said.flush(running)
        running.log.append(replace(end, seq=running.log.next_seq), time.monotonic())
        self._set_node(running=self.node.running - 1)
        running.wake()

    async def _answer(self, running: Running, said: "_Answer") -> End | Fail:
        attempt = running.attempt
        model = self._model(attempt.model)
        prompt_count = asyncio.ensure_future(self._count_prompt(attempt)) if model and model.has_tokenizer else None
        try:
            if prompt_count and _might_not_fit(attempt, model):
                tokens = await prompt_count
                if tokens is not None and model and tokens + attempt.max_tokens > model.context_tokens:
                    detail = f"the prompt has {tokens} tokens; with {attempt.max_tokens} for the answer it exceeds the context of {model.context_tokens}"
                    return Fail(seq=0, status=400, detail=detail, is_request_fault=True)
            async with contextlib.aclosing(self.runtime.stream(attempt.kind, attempt.model, attempt.request, attempt.max_tokens)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, RuntimeEnd):
                        usage = await self._usage(attempt, said, piece, prompt_count)
                        if piece.ended_early:
                            return Fail(seq=0, status=502, detail="the runtime ended without saying that it was done")
                        return End(seq=0, reason=EndReason.LENGTH if piece.reason == "length" else EndReason.STOP, usage=usage)
                    said.add(running, piece.content, piece.thinking)
                    if piece.tool_calls or piece.embeddings:
                        said.flush(running)
                        event = Text(seq=running.log.next_seq, tool_calls=piece.tool_calls, embeddings=piece.embeddings, tokens=1)
                        running.log.append(event, time.monotonic())
                        running.wake()
                    if running.log.text_bytes > MAX_TEXT_BYTES:
                        usage = await self._usage(attempt, said, None, prompt_count)
                        return End(seq=0, reason=EndReason.LENGTH, usage=usage)
        finally:
            if prompt_count and not prompt_count.done():
                prompt_count.cancel()
        raise RuntimeFailed(0, "the answer broke off")

    async def _end_of_canceled(self, running: Running, said: "_Answer") -> End | Fail:
        if running.cancel_reason in {"canceled", "abandoned"}:
            usage = await self._usage(running.attempt, said, None, None)
            return End(seq=0, reason=EndReason.CANCELED, usage=usage)
        return Fail(seq=0, status=504, detail=running.cancel_reason or "the worker stopped")

    async def _usage(
        self, attempt: Attempt, said: "_Answer", end: RuntimeEnd | None, prompt_count: "asyncio.Future[int | None] | None"
    ) -> Usage:
        """Count with the model's own tokenizer; else take the runtime's claim, bounded by the bytes that were delivered."""
        try:
            prompt = await prompt_count if prompt_count else await self._count_prompt(attempt)
            completion = await self.runtime.count_tokens(attempt.model, text=said.text) if said.text or prompt is not None else None
        except (RuntimeFailed, RuntimeRefused):
            prompt = completion = None
        if prompt is not None and completion is not None:
            return Usage(prompt_tokens=prompt, completion_tokens=min(completion, attempt.max_tokens), counted_by="platform")
        claimed = end.completion_tokens if end and end.completion_tokens is not None else said.pieces
        bound = min(attempt.max_tokens, len(said.text.encode()) + 1)
        prompt_claimed = end.prompt_tokens if end and end.prompt_tokens is not None else 0
        return Usage(
            prompt_tokens=min(prompt_claimed, _prompt_bound(attempt)), completion_tokens=min(claimed, bound), counted_by="provider"
        )

    async def _count_prompt(self, attempt: Attempt) -> int | None:
        request = attempt.request
        try:
            if attempt.kind is JobKind.CHAT:
                return await self.runtime.count_tokens(attempt.model, messages=list(request["messages"]))
            text = request.get("prompt") or request.get("input") or ""
            return await self.runtime.count_tokens(attempt.model, text=text if isinstance(text, str) else "\n".join(text))
        except (RuntimeFailed, RuntimeRefused):
            return None

    # --- watch ---------------------------------------------------------------------------------------------------------------------

    async def _watch_attempts(self) -> None:
        """Deadlines, beats, abandoned and old logs: one look at all attempts twice a second."""
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            for key, running in list(self.attempts.items()):
                if running.log.is_forgettable(now):
                    del self.attempts[key]
                    if self._newest.get(key[0]) == key[1]:
                        del self._newest[key[0]]
                elif running.log.ended_at is None:
                    self._look_at(running, now)

    def _look_at(self, running: Running, now: float) -> None:
        deadlines = running.attempt.deadlines
        since = now - running.started_at
        if running.log.is_abandoned(now):
            self._cancel(running, "abandoned")
        elif since > deadlines.total_s:
            self._cancel(running, f"the job took longer than {deadlines.total_s:g} s")
        elif running.last_text_at is None and since > deadlines.first_token_s:
            self._cancel(running, f"no first token within {deadlines.first_token_s:g} s")
        elif running.last_text_at is not None and now - running.last_text_at > deadlines.idle_s:
            self._cancel(running, f"no token for {deadlines.idle_s:g} s")
        elif now - running.log.spoke_at > self._limits.beat_s:
            running.log.append(Beat(seq=running.log.next_seq), now)
            running.wake()


class _Answer:
    """What the model said so far, on its way into the log."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._coalescer = Coalescer()
        self._timer: asyncio.TimerHandle | None = None
        self.pieces = 0

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def add(self, running: Running, content: str, thinking: str) -> None:
        """Keep a piece; send what is due."""
        if not content and not thinking:
            return
        now = time.monotonic()
        running.last_text_at = now
        self.pieces += 1
        self._texts.append(thinking + content)
        self._coalescer.add(content, thinking, 1)
        wait = self._coalescer.due_in(now)
        if wait <= 0:
            self.flush(running)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait, self.flush, running)

    def flush(self, running: Running) -> None:
        """Put what is kept into the log."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        event = self._coalescer.take(running.log.next_seq, now)
        if event and running.log.ended_at is None:
            running.log.text_bytes += len(event.content) + len(event.thinking)
            running.log.tokens += event.tokens
            running.log.append(event, now)
            running.wake()


def _prompt_bound(attempt: Attempt) -> int:
    """The most tokens a prompt can have: one per byte, and what the template adds."""
    request = attempt.request
    messages = request.get("messages") or [{"content": str(request.get("prompt") or request.get("input") or "")}]
    return sum(len(str(message.get("content") or "").encode()) + PROMPT_OVERHEAD_TOKENS for message in messages) + 64


def _might_not_fit(attempt: Attempt, model: OfferedModel | None) -> bool:
    return model is not None and _prompt_bound(attempt) + attempt.max_tokens > model.context_tokens

"""The worker of one trusted node: counts its slots, runs attempts on its runtime, keeps their logs.

A plain class; `cluster/worker_actor.py` makes it a Ray actor, `cluster/node_api.py` serves it. Slots are counted here, where they are, so
no race of drivers can oversubscribe a node.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from cluster.continuation import Diverged, Seam, Source, cut, raw_request, repeats
from cluster.errors import AttemptSuperseded, NodeBusy, OperationRefused, RuntimeFailed, RuntimeRefused
from cluster.fit import need_of
from cluster.gpus import GpuReader
from cluster.jobs import Attempt, End, EndReason, Fail, JobKind, Usage
from cluster.limits import LIMITS, Limits
from cluster.model_operations import Action, ModelOperations, Operation
from cluster.nodes import Gpu, Node, NodeKind, OfferedModel
from cluster.offer import Room, judged, room_of, with_told
from cluster.running import ABANDONED, CANCELED, SUPERSEDED, Running
from cluster.runtime.dialect import NO_MODEL, full_name
from cluster.runtime.ollama import Inventory, OllamaRuntime, RuntimeEnd
from cluster.speed import Speeds
from cluster.token_count import count_answer, count_prompt, might_not_fit, misfit, platform_usage, provider_usage

log = structlog.get_logger()
DEFAULT_SLOTS = 1
TICK_S = 0.5
UNHEALTHY_LOOK_S = 1.0
KEPT_ATTEMPTS = 4096  # ended ones, for readers that come back
KEPT_LOG_BYTES = 64 * 1024 * 1024
FENCE_S = 1800.0  # how long a job's newest attempt number is known: twice the longest job
GPU_LIMIT_S = 5.0  # a driver that takes longer hangs
SLOW_LOOKS = 2  # so many slow answers in a row, and the runtime counts as gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Care:
    """What the operator lets a node do with models. `free_memory` tells the machine's free bytes; None: the runtime is elsewhere."""

    may_pull: bool = False
    allows_partial: bool = False  # models that only partly fit into the GPU's memory are used too
    free_memory: Callable[[], int | None] = lambda: None


CARE = Care()


class Worker:
    """Slots, attempts and the runtime of one node."""

    def __init__(
        self, node_id: str, name: str, runtime: OllamaRuntime, gpus: GpuReader, *, slots: int | None = None, zone: str = "",
        limits: Limits = LIMITS, care: Care = CARE,
    ) -> None:  # fmt: skip
        self._runtime = runtime
        self._gpus = gpus
        self._care = care
        self._gpu_look: asyncio.Task[tuple[Gpu, ...]] | None = None
        self._room = Room(free_bytes=None)
        self._operations = ModelOperations(runtime, self)
        self._slots_set = slots
        self._limits = limits
        self._attempts: dict[tuple[str, int], Running] = {}
        self._live: set[Running] = set()
        self._ended: deque[Running] = deque()
        self._ended_bytes = 0
        self._newest: dict[str, tuple[int, float]] = {}  # job -> its newest attempt, and when it came; oldest first
        self._running = 0
        self._admitted = 0
        self._slow_looks = 0
        self._speeds = Speeds()
        self._tasks: list[asyncio.Task[None]] = []
        self._look_now = asyncio.Event()
        self._changed = asyncio.Event()
        self.watched = asyncio.Event()  # set when the Dispatcher watches: it can reach this node
        self._node = Node(
            id=node_id, name=name, kind=NodeKind.TRUSTED, url="", slots=0, running=0, models=(), is_healthy=False, reason="starting", zone=zone,
        )  # fmt: skip

    async def start(self) -> None:
        """Look at the runtime and begin to watch."""
        await self._runtime.start()
        await self.refresh()
        self._tasks = [asyncio.create_task(self._watch_runtime()), asyncio.create_task(self._watch_attempts())]

    async def aclose(self) -> None:
        """Cancel everything."""
        tasks: list[asyncio.Task[Any]] = [*self._tasks, *(one.task for one in self._live if one.task)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._operations.aclose()
        await self._runtime.aclose()

    # --- the node as others see it ---------------------------------------------------------------------------------------------------

    @property
    def node(self) -> Node:
        """The node now. Made when somebody looks, not when a job comes or goes."""
        known = self._node
        if (known.running, known.admitted) != (self._running, self._admitted):
            self._node = known = replace(known, running=self._running, admitted=self._admitted)
        return known

    def nodes(self) -> Sequence[Node]:
        """List the one node."""
        return (self.node,)

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next change; ask for it before looking at `nodes`."""
        return self._changed

    def note_watched(self) -> None:
        """Somebody with a service token watches this node."""
        self.watched.set()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _set_node(self, **changes: Any) -> None:
        changed = replace(self._node, **changes)
        if changed != self._node:
            self._node = changed
            self._tell()

    async def refresh(self) -> None:
        """Read the runtime's inventory and the GPUs; say whether the node is healthy."""
        try:
            found = await self._runtime.inventory()
        except (RuntimeFailed, RuntimeRefused) as failed:
            self._slow_looks += 1
            is_only_slow = isinstance(failed.__cause__, TimeoutError) and self._slow_looks < SLOW_LOOKS
            if not is_only_slow:
                self._set_node(is_healthy=False, reason=str(failed))
            return
        self._slow_looks = 0
        gpus, problem = await self._look_at_gpus()
        gpus = with_told(gpus, found.models)
        models = self._judged(found, gpus)
        problem = problem if models else found.problem or NO_MODEL
        self._set_node(
            is_healthy=bool(models), reason=self._reason(problem), slots=self._slots_set or found.slots or DEFAULT_SLOTS,
            models=self._speeds.told(models, time.monotonic()), runtime=f"{found.name} {found.version}", gpus=gpus,
        )  # fmt: skip

    async def _look_at_gpus(self) -> tuple[tuple[Gpu, ...], str]:
        """Read the GPUs and what is wrong with them; a driver that hangs is left alone, and what was known stays."""
        if self._gpu_look is None or self._gpu_look.done():
            self._gpu_look = asyncio.create_task(asyncio.to_thread(self._gpus.read))
        look = self._gpu_look  # another refresh may begin the next one meanwhile
        done, _ = await asyncio.wait((look,), timeout=GPU_LIMIT_S)
        if not done:
            return self._node.gpus, f"the GPU's driver has not answered for {GPU_LIMIT_S:g} s"
        return look.result(), self._gpus.problem

    def _judged(self, found: Inventory, gpus: Sequence[Gpu]) -> tuple[OfferedModel, ...]:
        self._room = room = room_of(gpus, found.models, self._care.free_memory())
        slots = found.slots or self._slots_set or DEFAULT_SLOTS
        judgements = []
        for model in found.models:
            plan = found.plans.get(model.name)
            on_gpu = bool(model.gpu_bytes) if model.took_bytes else room.on_gpu
            needed = plan and need_of(plan.info, model.size_bytes, context_tokens=plan.context_tokens, slots=slots, on_gpu=on_gpu)
            judgements.append(
                judged(model, needed_bytes=needed or None, room=room, has_gpu=bool(gpus), allows_partial=self._care.allows_partial)
            )
        return tuple(judgements)

    def _reason(self, problem: str) -> str:
        return "draining" if self._node.is_draining else problem

    async def _watch_runtime(self) -> None:
        while True:
            # Not `wait_for`: in Python 3.11 it swallows a cancellation that comes together with its result.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.inventory_s if self._node.is_healthy else UNHEALTHY_LOOK_S):
                    await self._look_now.wait()
            self._look_now.clear()
            try:
                await self.refresh()
            except Exception:
                log.exception("inventory_failed")
                self._set_node(is_healthy=False, reason="its inventory cannot be read")

    def drain(self, node: str) -> bool:
        """Take no new attempts, finish the running; False: another node is meant."""
        if node != self._node.id:
            return False
        self._set_node(is_draining=True, reason="draining")
        return True

    def resume(self, node: str) -> bool:
        """Take attempts again; False: another node is meant."""
        if node != self._node.id:
            return False
        self._set_node(is_draining=False, reason="")
        self._look_now.set()
        return True

    # --- its models ------------------------------------------------------------------------------------------------------------------

    def operate(self, node: str, action: Action, model: str, *, is_forced: bool) -> Operation | None:
        """Begin to load, unload or pull a model, or answer the operation that does so already; None: another node is meant.

        Raises:
            OperationRefused: Too many wait already.
        """
        return self._operations.start(action, model, is_forced=is_forced) if node == self._node.id else None

    async def describe(self, node: str, model: str) -> Mapping[str, Any] | None:
        """Tell what a model is; None: it is not here."""
        found = self.model(model) if node == self._node.id else None
        return await self._runtime.describe(found.name) if found else None

    async def count(self, node: str, model: str, messages: Sequence[Mapping[str, Any]]) -> int | None:
        """Count the tokens of a chat; None: nobody here can."""
        found = self.model(model) if node == self._node.id else None
        return await self._runtime.count_tokens(found.name, messages=[dict(message) for message in messages]) if found else None

    @property
    def name(self) -> str:
        """What people call the node."""
        return self._node.name

    @property
    def may_pull(self) -> bool:
        """Whether the node may fetch models."""
        return self._care.may_pull

    def model(self, name: str) -> OfferedModel | None:
        """Look up what the node has, without regard to case and default tag."""
        wanted = full_name(name)
        return next((model for model in self._node.models if full_name(model.name) == wanted), None)

    def room(self) -> Room:
        """Tell what memory models can have."""
        return self._room

    def jobs_on(self, model: str) -> int:
        """Count the jobs that run on a model."""
        return sum(running.attempt.model == model for running in self._live)

    async def look(self) -> None:
        """Look at the runtime now."""
        await self.refresh()

    def note_operation(self, doing: str) -> None:
        """Tell those who watch what is done with the models."""
        self._set_node(operation=doing)

    async def _warm_up(self, model: OfferedModel) -> None:
        """Load a model before its first use, in its turn: the runtime alone would let two cold models fight.

        Raises:
            RuntimeFailed: It cannot be loaded here; another node may.
        """
        try:
            await self._operations.start(Action.LOAD, model.name, is_forced=True).result()
        except (OperationRefused, RuntimeRefused) as refused:
            raise RuntimeFailed(503, f"{model.name} was not loaded: {refused}") from refused

    # --- attempts --------------------------------------------------------------------------------------------------------------------

    def admit(self, attempt: Attempt) -> Running:
        """Take an attempt, or answer the one that runs already.

        Raises:
            NodeBusy: No slot, draining, or the model is not here; nothing was started.
            AttemptSuperseded: A newer attempt of the job is known, or this one ended long ago.
            ValueError: It continues nothing that a job could have said.
        """
        if known := self.find(attempt.job, attempt.number):
            return known
        if self._newest.get(attempt.job, (0, 0.0))[0] == attempt.number:
            raise AttemptSuperseded(attempt.job, attempt.number)  # it ran, and its log is gone: it must not run twice
        self._supersede(attempt)
        if reason := self._refusal(attempt):
            raise NodeBusy(self._node.id, reason, max(0, self._node.slots - self._running))
        running = Running(attempt, self._node.id)
        self._attempts[attempt.job, attempt.number] = running
        self._newest.pop(attempt.job, None)
        self._newest[attempt.job] = (attempt.number, time.monotonic())
        self._live.add(running)
        self._running += 1
        self._admitted += 1
        self._tell()
        running.task = asyncio.create_task(self._run(running))
        running.task.add_done_callback(partial(self._finish, running))
        return running

    async def begin(self, attempt: Attempt) -> Running:
        """See `admit`."""
        return self.admit(attempt)

    async def attach(self, job: str, number: int, node: str, asked: Attempt | None = None) -> Running | None:
        """See `find`."""
        return self.find(job, number)

    def _refusal(self, attempt: Attempt) -> str | None:
        node = self._node
        if attempt.node != node.id:
            return f"this is {node.id}"
        if node.is_draining:
            return "draining"
        if not node.is_healthy:
            return node.reason
        model = self._model(attempt.model)
        if model is None:
            return f"no_model {attempt.model}"
        if attempt.model_digest and attempt.model_digest != model.digest:
            return f"another {attempt.model}"
        if not model.fits:
            return f"no_room {attempt.model}"
        return "busy" if self._running >= node.slots else None

    def _supersede(self, attempt: Attempt) -> None:
        """End the older attempt of the same job: its lease is over, its slot is free at once."""
        if newest := self._newest.get(attempt.job):
            older = self._attempts.get((attempt.job, newest[0]))
            if older and older in self._live:
                self._release(older)
                older.cancel(SUPERSEDED)

    def find(self, job: str, number: int) -> Running | None:
        """Look an attempt up.

        Raises:
            AttemptSuperseded: A newer one is known.
        """
        newest = self._newest.get(job)
        if newest and newest[0] > number:
            raise AttemptSuperseded(job, number)
        return self._attempts.get((job, number))

    def cancel(self, job: str, number: int) -> None:
        """Cancel an attempt; an unknown or ended one is fine."""
        if running := self._attempts.get((job, number)):
            running.cancel(CANCELED)

    def _release(self, running: Running) -> None:
        if running.has_slot:
            running.has_slot = False
            self._running -= 1
            self._tell()

    def _finish(self, running: Running, task: "asyncio.Task[None]") -> None:
        """End the log and free the slot, whatever happened to the task; also when it was canceled before its first step."""
        self._live.discard(running)
        self._release(running)
        if task.cancelled():
            running.end(_end_of_unstarted(running))
        elif (broken := task.exception()) is not None:
            log.error("attempt_failed", job=running.attempt.job, exc_info=broken)
            running.end(Fail(seq=0, status=500, detail=type(broken).__name__))
        self._ended.append(running)
        self._ended_bytes += running.log.size_bytes

    def _model(self, name: str) -> OfferedModel | None:
        return next((model for model in self._node.models if model.name == name), None)

    # --- one attempt -------------------------------------------------------------------------------------------------------------------

    async def _run(self, running: Running) -> None:
        model = self._model(running.attempt.model)  # as it was when the attempt came
        end = await self._outcome(running)
        self._release(running)
        running.end(end)  # here and not in `_finish`: so the end leaves with the last text
        if model and isinstance(end, End) and end.reason is not EndReason.CANCELED:
            now = time.monotonic()
            if ran := running.ran(now, was_loaded=model.is_loaded):
                self._speeds.ended(model, ran, now)

    async def _outcome(self, running: Running) -> End | Fail:
        try:
            return await self._answer(running)
        except asyncio.CancelledError:
            if running.cancel_reason not in {CANCELED, ABANDONED}:
                return Fail(seq=0, status=504, detail=running.cancel_reason or "the worker stopped")
            return End(seq=0, reason=EndReason.CANCELED, usage=await self._usage(running, None, None))
        except RuntimeRefused as refused:
            return Fail(seq=0, status=refused.status, detail=refused.detail, is_request_fault=True)
        except RuntimeFailed as failed:
            self._look_now.set()
            return Fail(seq=0, status=failed.status, detail=failed.detail)

    async def _answer(self, running: Running) -> End | Fail:
        attempt = running.attempt
        model = self._model(attempt.model)
        if model is None:
            raise RuntimeFailed(404, f"the node lost {attempt.model}")
        if not model.is_loaded:
            await self._warm_up(model)
            model = self._model(attempt.model) or model
        if running.said:
            return await self._go_on(running)
        if not model.has_tokenizer:
            return await self._stream(running, None)
        counted = asyncio.create_task(count_prompt(self._runtime, attempt))
        try:
            if might_not_fit(attempt, model):
                tokens = await counted
                if tokens is not None and (detail := misfit(attempt, model, tokens)):
                    return Fail(seq=0, status=400, detail=detail, is_request_fault=True)
            return await self._stream(running, counted)
        finally:
            counted.cancel()

    async def _go_on(self, running: Running) -> End | Fail:
        """Go on with an answer that another node began (`cluster/continuation.py`)."""
        attempt = running.attempt
        if await self._tokens_of(running, running.said) >= attempt.max_tokens:
            return End(seq=0, reason=EndReason.LENGTH, usage=await self._usage(running, None, None))
        try:
            async with aclosing(self._ways_on(running)) as ways:
                async for source in ways:
                    with suppress(Diverged):
                        return await self._stream(running, None, source)
        except RuntimeRefused as refused:
            raise RuntimeFailed(501, f"this node cannot go on with an answer: {refused}") from refused
        raise RuntimeFailed(501, "this node cannot go on with this answer")

    async def _ways_on(self, running: Running) -> AsyncGenerator[Source, None]:
        attempt, said = running.attempt, running.said
        if repeats(attempt.request):
            yield Source(kind=attempt.kind, request=attempt.request, max_tokens=attempt.max_tokens, again=said)
        prompt = await self._runtime.render(attempt.model, attempt.request)
        for text, again in (cut(said), (said, "")):
            counted = await count_answer(self._runtime, attempt, text)
            before = running.said_tokens if counted is None else counted
            # Where nobody counts, the tokens of the cut word are not known: a character each at most, and what is new is counted as it comes.
            left = attempt.max_tokens - before + (len(again) if counted is None else 0)
            yield Source(
                kind=JobKind.GENERATE, request=raw_request(attempt.request, prompt + text), max_tokens=max(1, left), again=again,
                tokens_before=before, most_new=attempt.max_tokens - before if counted is None else None,
            )  # fmt: skip

    async def _tokens_of(self, running: Running, text: str) -> int:
        counted = await count_answer(self._runtime, running.attempt, text)
        return running.said_tokens if counted is None else counted

    async def _stream(self, running: Running, counted: "asyncio.Task[int | None] | None", source: Source | None = None) -> End | Fail:
        """Read the runtime's answer to its end.

        Raises:
            Diverged: What was to be written again came out otherwise; nothing was said.
        """
        attempt = running.attempt
        source = source or Source(kind=attempt.kind, request=attempt.request, max_tokens=attempt.max_tokens)
        running.tokens_before = source.tokens_before
        seam = Seam(source.again, time.monotonic() + source.again_s)
        async with aclosing(self._runtime.stream(source.kind, attempt.model, source.request, source.max_tokens)) as pieces:
            async for piece in pieces:
                if isinstance(piece, RuntimeEnd):
                    if not seam.is_closed:
                        raise Diverged
                    if piece.ended_early:
                        return Fail(seq=0, status=502, detail="the runtime ended without saying that it was done")
                    reason = EndReason.LENGTH if piece.reason == "length" else EndReason.STOP
                    return End(seq=0, reason=reason, usage=await self._usage(running, piece, counted))
                if not seam.is_closed:
                    running.heard()
                    piece = replace(piece, content=seam.take(piece.content, time.monotonic()))  # noqa: PLW2901 - what is new of it
                    if not piece.content:
                        continue
                if running.is_held_back:
                    await running.go_on()
                if not running.add(piece) or running.pieces == source.most_new:
                    return End(seq=0, reason=EndReason.LENGTH, usage=await self._usage(running, None, counted))
        raise RuntimeFailed(0, "the answer broke off")

    async def _usage(self, running: Running, end: RuntimeEnd | None, counted: "asyncio.Task[int | None] | None") -> Usage:
        attempt, text = running.attempt, running.text
        model = self._model(attempt.model)
        if model and model.has_tokenizer:
            prompt = await (counted or count_prompt(self._runtime, attempt))
            completion = await count_answer(self._runtime, attempt, text) if prompt is not None else None
            if prompt is not None and completion is not None:
                return platform_usage(attempt, prompt, completion)
        return provider_usage(
            attempt, end, len(text.encode(errors="surrogatepass")), running.pieces, running.tokens_before, running.said_tokens
        )

    # --- watch ---------------------------------------------------------------------------------------------------------------------

    async def _watch_attempts(self) -> None:
        """Deadlines, beats, abandoned and old logs: one look at all attempts twice a second."""
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            try:
                for running in tuple(self._live):
                    running.look(now, self._limits)
                self._forget(now)
            except Exception:
                log.exception("look_failed")

    def _forget(self, now: float) -> None:
        while self._ended and (
            self._ended[0].log.is_forgettable(now) or len(self._ended) > KEPT_ATTEMPTS or self._ended_bytes > KEPT_LOG_BYTES
        ):
            oldest = self._ended.popleft()
            self._ended_bytes -= oldest.log.size_bytes
            self._attempts.pop((oldest.attempt.job, oldest.attempt.number), None)
        while self._newest:
            job, (_, came_at) = next(iter(self._newest.items()))
            if now - came_at <= FENCE_S:
                break
            del self._newest[job]


def _end_of_unstarted(running: Running) -> End | Fail:
    """The end of an attempt that was canceled before the runtime heard of it."""
    if running.cancel_reason in {CANCELED, ABANDONED}:
        return End(seq=0, reason=EndReason.CANCELED, usage=Usage(prompt_tokens=0, completion_tokens=0, counted_by="platform"))
    return Fail(seq=0, status=504, detail=running.cancel_reason or "the worker stopped")

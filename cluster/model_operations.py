"""Loads, unloads and pulls of models on one node: one at a time, so that two cold models do not fight for the memory.

An operation goes on when whoever asked for it leaves; who asks for the same meanwhile follows the same one. A pull takes no memory: it
waits for other pulls alone, and jobs' loads do not wait for it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import structlog

from cluster.errors import ClusterError, OperationRefused, RuntimeFailed, RuntimeRefused
from cluster.nodes import OfferedModel
from cluster.offer import Room, gib
from cluster.runtime.dialect import MODEL_NAME, full_name
from cluster.runtime.ollama import OllamaRuntime

log = structlog.get_logger()
MAX_OPERATIONS = 16  # that run or wait on a node


class Action(StrEnum):
    """What can be done with a model."""

    LOAD = "load"
    UNLOAD = "unload"
    PULL = "pull"


DOING = {Action.LOAD: "loading", Action.UNLOAD: "unloading", Action.PULL: "pulling"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an operation is, in words; bytes where it moves some."""

    status: str
    elapsed_s: float = 0.0
    completed_bytes: int | None = None
    total_bytes: int | None = None


class Place(Protocol):
    """What operations must know of the node they are on."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def may_pull(self) -> bool:
        """Whether its operator lets it fetch models."""

    def model(self, name: str) -> OfferedModel | None:
        """Look up what it has, as of the last look."""

    def room(self) -> Room:
        """Tell what memory models can have, as of the last look."""

    def jobs_on(self, model: str) -> int:
        """Count the jobs that run on a model."""

    async def look(self) -> None:
        """Look again."""

    def note_operation(self, doing: str) -> None:
        """Hear what is done now, in words; empty: nothing."""


class Operation:
    """One load, unload or pull on its way, followed by whoever asks."""

    def __init__(self, action: Action, model: str, *, is_forced: bool) -> None:
        self.action, self.model, self.is_forced = action, model, is_forced
        self.is_running = False
        self._began_at = time.monotonic()
        self._said = Progress(status="waiting")
        self._changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    @property
    def doing(self) -> str:
        """What it does, e.g. `loading smollm2:135m`."""
        return f"{DOING[self.action]} {self.model}"

    def say(self, status: str, completed_bytes: int | None = None, total_bytes: int | None = None) -> None:
        """Tell followers how far it is."""
        self._said = Progress(status=status, elapsed_s=self._elapsed_s(), completed_bytes=completed_bytes, total_bytes=total_bytes)
        self._changed.set()
        self._changed = asyncio.Event()

    def _elapsed_s(self) -> float:
        return round(time.monotonic() - self._began_at, 1)

    async def follow(self, beat_s: float) -> AsyncIterator[Progress]:
        """Yield how far it is: what is new, and every `beat_s` again what was said last; ends when it has succeeded.

        Raises:
            OperationRefused: It cannot be done.
            RuntimeFailed: The runtime did not do it.
            RuntimeRefused: The runtime does not want to.
        """
        assert self.task is not None
        told: Progress | None = None
        while not self.task.done():
            changed, told = self._changed, self._said
            yield replace(told, elapsed_s=self._elapsed_s())
            waiting = asyncio.ensure_future(changed.wait())
            await asyncio.wait((waiting, self.task), timeout=beat_s, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        if self._said is not told:
            yield self._said
        await self.result()

    async def result(self) -> None:
        """Wait for its end; leaving does not stop it.

        Raises:
            ClusterError: As `follow`.
        """
        assert self.task is not None
        try:
            await asyncio.shield(self.task)
        except asyncio.CancelledError:
            if self.task.cancelled():  # and not we
                raise RuntimeFailed(0, "the worker stopped") from None
            raise


class ModelOperations:
    """The operations of one node."""

    def __init__(self, runtime: OllamaRuntime, place: Place) -> None:
        self._runtime = runtime
        self._place = place
        self._all: dict[tuple[Action, str, bool], Operation] = {}
        self._memory, self._network = asyncio.Lock(), asyncio.Lock()

    def start(self, action: Action, model: str, *, is_forced: bool = False) -> Operation:
        """Begin an operation, or answer the same one that is under way.

        Raises:
            OperationRefused: Too many wait already.
        """
        key = (action, full_name(model), is_forced)
        if known := self._all.get(key):
            return known
        if len(self._all) >= MAX_OPERATIONS:
            raise OperationRefused(f"{self._place.name} has {MAX_OPERATIONS} operations to do already", "try again when some have ended")
        operation = self._all[key] = Operation(action, model, is_forced=is_forced)
        operation.task = asyncio.create_task(self._run(operation))
        operation.task.add_done_callback(lambda task: self._end(key, task))
        return operation

    def _end(self, key: tuple[Action, str, bool], task: "asyncio.Task[None]") -> None:
        self._all.pop(key)
        if not task.cancelled() and (broken := task.exception()) and not isinstance(broken, ClusterError):
            log.error("operation_failed", action=key[0], model=key[1], exc_info=broken)
        self._tell()

    def _tell(self) -> None:
        self._place.note_operation("; ".join(one.doing for one in self._all.values() if one.is_running))

    async def aclose(self) -> None:
        """Stop all."""
        tasks = [one.task for one in self._all.values() if one.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, operation: Operation) -> None:
        turn = self._network if operation.action is Action.PULL else self._memory
        if turn.locked():
            operation.say("waiting for its turn")
        async with turn:
            operation.is_running = True
            operation.say(operation.doing)
            self._tell()
            await {Action.LOAD: self._load, Action.UNLOAD: self._unload, Action.PULL: self._pull}[operation.action](operation)
            await self._look()
        operation.say(self._outcome(operation))

    async def _look(self) -> None:
        with suppress(RuntimeFailed, RuntimeRefused):
            await self._place.look()

    # --- what is done --------------------------------------------------------------------------------------------------------------

    async def _load(self, operation: Operation) -> None:
        await self._look()
        model = self._had(operation)
        if model.is_loaded:
            return
        room = self._place.room()
        if model.needed_bytes is not None and not operation.is_forced and not room.is_enough(model.needed_bytes, evicting=False):
            raise OperationRefused(room.refusal(model.name, model.needed_bytes), "unload another model first, or force it")
        await self._runtime.load(model.name, embeds_only=_embeds_only(model))

    async def _unload(self, operation: Operation) -> None:
        await self._look()
        model = self._had(operation)
        if not model.is_loaded:
            return
        if jobs := self._place.jobs_on(model.name):
            operation.say(f"{operation.doing} when {'its job has' if jobs == 1 else f'its {jobs} jobs have'} ended")
        await self._runtime.unload(model.name, embeds_only=_embeds_only(model))

    async def _pull(self, operation: Operation) -> None:
        if not self._place.may_pull:
            raise OperationRefused(
                f"{self._place.name} does not fetch models", "its operator allows it by GFE_NODE_PULL=1, or `gfe join --pull`"
            )
        if not MODEL_NAME.match(operation.model) or _is_elsewhere(operation.model):
            raise OperationRefused(f"`{operation.model[:80]}` is not the name of a model that a node can fetch", "write it as name:tag")
        async for said in self._runtime.pull(operation.model):
            operation.say(f"{operation.doing}: {said.status}", said.completed_bytes, said.total_bytes)

    def _had(self, operation: Operation) -> OfferedModel:
        model = self._place.model(operation.model)
        if model is None:
            raise OperationRefused(f"{self._place.name} does not have {operation.model}", "pull it there first, or name another node")
        operation.model = model.name  # as the node writes it
        return model

    def _outcome(self, operation: Operation) -> str:
        """Say what came of it; of a load also what it took beside what the formula says."""
        model = self._place.model(operation.model)
        if operation.action is Action.PULL:
            return f"{operation.model} is there"
        if operation.action is Action.UNLOAD:
            return (
                f"{operation.model} is not loaded any more"
                if model is None or not model.is_loaded
                else f"{operation.model} ends its last jobs"
            )
        took = f", took {gib(model.took_bytes)}" if model and model.took_bytes else ""
        needed = f" of {gib(model.needed_bytes)} expected" if took and model and model.needed_bytes else ""
        return f"{operation.model} is loaded{took}{needed}"


def _is_elsewhere(model: str) -> bool:
    """Whether a name means a model that runs in Ollama's cloud."""
    return ":" in model and "cloud" in model.rpartition(":")[2].split("-")


def _embeds_only(model: OfferedModel) -> bool:
    return "completion" not in model.capabilities and "embedding" in model.capabilities

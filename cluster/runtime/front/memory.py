"""Which models are in memory: a child for each, so many requests at once on it, a time to live, and who waits."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from cluster.runtime.child import start_child
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front.runner import Runner, open_session
from cluster.runtime.models import Model

MAX_WAITING = 512
KEEP_ALIVE_S = 1800.0
LOOK_S = 0.5
BUSY = "server busy, please try again.  maximum pending requests exceeded"


@dataclass(slots=True)
class Loaded:
    """A model in memory."""

    model: Model
    runner: Runner
    slots: asyncio.Semaphore
    keep_alive_s: float
    unload_at: float  # monotonic; moves with every use
    running: int = 0

    @property
    def context_tokens(self) -> int:
        """The context of each slot."""
        return self.runner.child.context_tokens

    def touch(self) -> None:
        """Begin the time to live anew."""
        self.unload_at = time.monotonic() + self.keep_alive_s


class Memory:
    """What is loaded, and who waits."""

    def __init__(self, *, slots: int, context_tokens: int) -> None:
        self.slots, self.context_tokens = slots, context_tokens
        self.loaded: dict[str, Loaded] = {}
        self.waiting = 0
        self._loading = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session to the children."""
        self._session = open_session()

    async def close(self) -> None:
        """End all children."""
        for loaded in list(self.loaded.values()):
            await loaded.runner.child.stop()
        if self._session:
            await self._session.close()

    async def obtain(self, model: Model, options: Json, keep_alive_s: float | None) -> Loaded:
        """Answer the loaded model; load it, or load it anew when another context is asked for. Loads go one by one.

        Raises:
            ChildFailed: It cannot be loaded.
        """
        context = min(model.context_tokens, max(16, int(options.get("num_ctx") or self.context_tokens)))
        async with self._loading:
            loaded = self.loaded.get(model.name)
            if loaded and (not loaded.runner.child.is_alive or loaded.context_tokens != context):
                await self.unload(model.name)
                loaded = None
            if loaded is None:
                loaded = await self._load(model, context)
            if keep_alive_s is not None:
                loaded.keep_alive_s = keep_alive_s
            loaded.touch()
            return loaded

    async def _load(self, model: Model, context: int) -> Loaded:
        assert self._session is not None
        threads = max(1, (os.cpu_count() or 2) - 1)
        child = await start_child(model.path, context_tokens=context, slots=self.slots, threads=threads, session=self._session)
        slots = asyncio.Semaphore(self.slots)
        loaded = Loaded(model, Runner(child, self._session), slots, KEEP_ALIVE_S, time.monotonic() + KEEP_ALIVE_S)
        self.loaded[model.name] = loaded
        return loaded

    @asynccontextmanager
    async def slot(self, model: Model, options: Json, keep_alive_s: float | None) -> AsyncIterator[Loaded]:
        """Wait for a free slot of the loaded model.

        Raises:
            BadRequest: 503 when too many wait.
            ChildFailed: The model cannot be loaded.
        """
        if self.waiting >= MAX_WAITING:
            raise BadRequest(BUSY, 503)
        self.waiting += 1
        try:
            loaded = await self.obtain(model, options, keep_alive_s)
            await loaded.slots.acquire()
        finally:
            self.waiting -= 1
        loaded.running += 1
        try:
            yield loaded
        finally:
            loaded.running -= 1
            loaded.slots.release()
            loaded.touch()
            if loaded.keep_alive_s == 0 and not loaded.running:
                await self.unload(model.name)

    async def unload(self, name: str) -> None:
        """End the model's child."""
        loaded = self.loaded.pop(name, None)
        if loaded:
            await loaded.runner.child.stop()

    async def unload_when_idle(self, name: str) -> None:
        """Unload a model, after what runs on it now."""
        loaded = self.loaded.get(name)
        if loaded and loaded.running:
            loaded.keep_alive_s = 0
        else:
            await self.unload(name)

    async def watch(self) -> None:
        """Unload what was not used for its time to live; notice dead children. Never ends."""
        while True:
            await asyncio.sleep(LOOK_S)
            for name, loaded in list(self.loaded.items()):
                is_over = not loaded.running and time.monotonic() > loaded.unload_at
                if is_over or not loaded.runner.child.is_alive:
                    await self.unload(name)

"""Which models are in memory: a child for each, so many requests at once on it, a time to live, and who waits."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import aiohttp

from cluster.runtime.child import start_child
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front.model import Model
from cluster.runtime.front.runner import Runner, open_session

MAX_WAITING = 512
MAX_LOADED = 3  # as Ollama's without GPUs
MIN_CONTEXT = 16
KEEP_ALIVE_S = 1800.0
LOOK_S = 0.5
BUSY = "server busy, please try again.  maximum pending requests exceeded"


@dataclass(slots=True)
class Loaded:
    """A model in memory. `users` run on it or wait for one of its slots."""

    model: Model
    runner: Runner
    slots: asyncio.Semaphore
    keep_alive_s: float
    unload_at: float  # monotonic; moves with every use
    users: int = 0

    @property
    def context_tokens(self) -> int:
        """The context of each slot."""
        return self.runner.child.context_tokens

    def serves(self, model: Model, context_tokens: int) -> bool:
        """Whether it is this file, with this context, and alive."""
        return self.runner.child.is_alive and self.model.path == model.path and self.context_tokens == context_tokens

    def touch(self) -> None:
        """Begin the time to live anew."""
        self.unload_at = time.monotonic() + self.keep_alive_s


class Memory:
    """What is loaded, by the model's name, and who waits."""

    def __init__(self, *, slots: int, context_tokens: int, max_waiting: int = MAX_WAITING, max_loaded: int = MAX_LOADED) -> None:
        self.slots, self.context_tokens = slots, context_tokens
        self.max_waiting, self.max_loaded = max_waiting, max_loaded
        self.loaded: dict[str, Loaded] = {}
        self._waiting = 0
        self._loading = asyncio.Lock()
        self._left = asyncio.Event()  # somebody does not use a model any more
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session to the children."""
        self._session = open_session()

    async def close(self) -> None:
        """End all children."""
        for loaded in list(self.loaded.values()):
            await self._unload(loaded)
        if self._session:
            await self._session.close()

    async def load(self, model: Model, options: Json, keep_alive_s: float | None) -> None:
        """Have a model loaded.

        Raises:
            BadRequest: 503 when too many wait.
            ChildFailed: It cannot be loaded.
        """
        with self._in_line():
            loaded = await self._obtain(model, options, keep_alive_s)
        await self._leave(loaded)

    @asynccontextmanager
    async def use(self, model: Model) -> AsyncIterator[Loaded]:
        """Have a model loaded, as it is or as usual, for what takes no slot.

        Raises:
            BadRequest: 503 when too many wait.
            ChildFailed: It cannot be loaded.
        """
        with self._in_line():
            loaded = await self._obtain(model, {}, None, as_it_is=True)
        try:
            yield loaded
        finally:
            await self._leave(loaded)

    @asynccontextmanager
    async def slot(self, model: Model, options: Json, keep_alive_s: float | None) -> AsyncIterator[Loaded]:
        """Wait for a free slot of the loaded model.

        Raises:
            BadRequest: 503 when too many wait.
            ChildFailed: The model cannot be loaded.
        """
        with self._in_line():
            loaded = await self._obtain(model, options, keep_alive_s)
            try:
                await loaded.slots.acquire()
            except BaseException:
                await self._leave(loaded)
                raise
        try:
            yield loaded
        finally:
            loaded.slots.release()
            await self._leave(loaded)

    @contextmanager
    def _in_line(self) -> Iterator[None]:
        if self._waiting >= self.max_waiting:
            raise BadRequest(BUSY, 503)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _obtain(self, model: Model, options: Json, keep_alive_s: float | None, *, as_it_is: bool = False) -> Loaded:
        """Answer the loaded model, used by one more; load it, or anew when another context is asked for. Loads go one by one."""
        wanted = options.get("num_ctx") or model.manifest.parameters.get("num_ctx") or self.context_tokens
        context = min(model.context_tokens, max(MIN_CONTEXT, int(wanted)))
        async with self._loading:
            loaded = self.loaded.get(model.name)
            if loaded and not loaded.serves(model, loaded.context_tokens if as_it_is else context):
                if loaded.runner.child.is_alive:
                    await self._until_idle(loaded)
                await self._unload(loaded)
                loaded = None
            if loaded is None:
                await self._make_room()
                loaded = await self._load(model, context)
            if keep_alive_s is not None:
                loaded.keep_alive_s = keep_alive_s
            loaded.model = model
            loaded.users += 1
            loaded.touch()
            return loaded

    async def _make_room(self) -> None:
        """Unload the idle model that would go first, where no more may be loaded; wait for one that is idle."""
        while len(self.loaded) >= self.max_loaded:
            idle = [one for one in self.loaded.values() if not one.users]
            if idle:
                await self._unload(min(idle, key=lambda one: one.unload_at))
            else:
                await self._until_somebody_leaves()

    async def _until_idle(self, loaded: Loaded) -> None:
        while loaded.users:
            await self._until_somebody_leaves()

    async def _until_somebody_leaves(self) -> None:
        self._left.clear()  # whoever loads is alone here
        await self._left.wait()

    async def _load(self, model: Model, context: int) -> Loaded:
        assert self._session is not None
        threads = max(1, (os.cpu_count() or 2) - 1)
        child = await start_child(model.path, context_tokens=context, slots=self.slots, threads=threads, session=self._session)
        slots = asyncio.Semaphore(self.slots)
        loaded = Loaded(model, Runner(child, self._session), slots, KEEP_ALIVE_S, time.monotonic() + KEEP_ALIVE_S)
        self.loaded[model.name] = loaded
        return loaded

    async def _leave(self, loaded: Loaded) -> None:
        loaded.users -= 1
        loaded.touch()
        self._left.set()
        if loaded.keep_alive_s == 0 and not loaded.users:
            await self._unload(loaded)

    async def _unload(self, loaded: Loaded) -> None:
        if self.loaded.get(loaded.model.name) is loaded:
            del self.loaded[loaded.model.name]
            self._left.set()
        await loaded.runner.child.stop()

    async def unload_when_idle(self, name: str) -> None:
        """Unload a model, after what runs on it now."""
        loaded = self.loaded.get(name)
        if loaded and loaded.users:
            loaded.keep_alive_s = 0
        elif loaded:
            await self._unload(loaded)

    async def watch(self) -> None:
        """Unload what was not used for its time to live; notice dead children. Never ends."""
        while True:
            await asyncio.sleep(LOOK_S)
            for loaded in list(self.loaded.values()):
                is_over = not loaded.users and time.monotonic() > loaded.unload_at
                if is_over or not loaded.runner.child.is_alive:
                    await self._unload(loaded)

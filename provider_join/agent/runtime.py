"""The runtime that the agent's jobs run on: an Ollama of this machine, or the embedded one as a child process."""

import asyncio
import importlib.util
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from cluster.free_memory import LOOPBACK
from cluster.runtime.choose import RuntimeUnusable, address_of, choose_for
from cluster.runtime.dialect import full_name
from cluster.runtime.ollama import Inventory, OllamaRuntime
from provider_join.agent.sharing import read_share
from provider_join.errors import NotFit, StartFailed

START_LIMIT_S = 60.0
STOP_LIMIT_S = 5.0
NONE_ALLOWED = "it has no model that --models allows"
MODULE = "xllamacpp"  # what the embedded runtime computes with


def find(environment: Mapping[str, str]) -> str | None:
    """Find the runtime of this machine; None: the embedded one is to be started.

    Raises:
        NotFit: The one that is named does not answer, is too old or is elsewhere, or there is none at all.
    """
    named = environment.get("GFE_OLLAMA_URL") or address_of(environment)
    if urlsplit(named).hostname not in LOOPBACK:
        raise NotFit(
            f"the Ollama at {named} is not on this machine", "an agent offers its own machine's models: set OLLAMA_HOST=127.0.0.1:11434"
        )
    try:
        choice = choose_for(environment)
    except RuntimeUnusable as unusable:
        raise NotFit(unusable.what, unusable.hint) from unusable
    if choice.url is None and importlib.util.find_spec(MODULE) is None:
        raise NotFit(
            f"no Ollama answers at {address_of(environment)}, and the embedded runtime is not installed here",
            "start Ollama (https://ollama.com), or install the embedded runtime: pip install 'gpu-for-everyone[local]'",
        )
    return choice.url


class EmbeddedRuntime:
    """Our own runtime as a child process on a free loopback port."""

    def __init__(self, store: Path, log: Path) -> None:
        self._store = store
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Start it; answer its URL. Its model is fetched and loaded afterwards.

        Raises:
            StartFailed: It did not come up.
        """
        self._store.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = (sys.executable, "-P", "-m", "cluster.runtime.front", "--host", "127.0.0.1", "--port", "0", "--store", str(self._store))
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=log, cwd="/", start_new_session=True, env=dict(os.environ)
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_LIMIT_S):
                said = json.loads(await self._process.stdout.readline())
        except (TimeoutError, ValueError) as broken:
            await self.stop()
            raise StartFailed("the embedded runtime did not start", f"see {self._log}") from broken
        self._listening = asyncio.create_task(_swallow(self._process.stdout))
        return f"http://127.0.0.1:{said['port']}"

    async def stop(self) -> None:
        """End it."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    @property
    def has_ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process is not None and self._process.returncode is not None


async def _swallow(output: asyncio.StreamReader) -> None:
    """Read what it says of its progress, so that its pipe never fills."""
    while await output.readline():
        pass


class SharedRuntime(OllamaRuntime):
    """The runtime as its owner shares it: only the models he allows, only so many jobs at once."""

    def __init__(self, url: str, models: Sequence[str] = (), share: str = "") -> None:
        super().__init__(url)
        self._allowed = frozenset(map(full_name, models))
        self._share = share

    async def inventory(self) -> Inventory:
        """See `OllamaRuntime.inventory`."""
        found = await super().inventory()
        models = tuple(model for model in found.models if not self._allowed or full_name(model.name) in self._allowed)
        problem = NONE_ALLOWED if found.models and not models else found.problem
        return replace(found, models=models, problem=problem, slots=read_share(self._share, found.slots) or found.slots)

"""The models that this installation has."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from cluster.runtime import dialect
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.models import KnownModel, Model, bytes_on_the_way, install

PULL_LINE_S = 0.5


class Library:
    """The models, by name."""

    def __init__(self, *, store: Path, cache: Path) -> None:
        self.store, self.cache = store, cache
        self.models: dict[str, Model] = {}

    def find(self, name: Any) -> Model:
        """Find a model by its name as sent.

        Raises:
            BadRequest: 404 in Ollama's words.
        """
        if not isinstance(name, str) or not name:
            raise BadRequest("model is required")
        found = self.models.get(dialect.full_name(name))
        if found is None:
            raise BadRequest(f"model '{name}' not found", 404)
        return found

    async def add(self, known: KnownModel) -> None:
        """Fetch a model that we know, and have it.

        Raises:
            FetchFailed: It cannot be had.
        """
        self.models[known.name] = await asyncio.to_thread(install, known, self.cache, self.store)

    async def pull(self, known: KnownModel) -> AsyncIterator[Json]:
        """Fetch a model and add it; yield Ollama's lines.

        Raises:
            FetchFailed: It cannot be had.
        """
        layer = {"status": f"pulling {known.gguf_sha256[:12]}", "digest": f"sha256:{known.gguf_sha256}", "total": known.size_bytes}
        fetching = asyncio.create_task(self.add(known))
        while not fetching.done():
            yield layer | {"completed": await asyncio.to_thread(bytes_on_the_way, known, self.cache)}
            await asyncio.wait((fetching,), timeout=PULL_LINE_S)
        fetching.result()
        yield layer | {"completed": known.size_bytes}
        for status in ("verifying sha256 digest", "writing manifest", "success"):
            yield {"status": status}

"""The models that this installation has: manifests and blobs in its store. A change is on disk before it is told."""

import asyncio
import fcntl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from cluster.runtime import dialect
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front.blobs import Blobs
from cluster.runtime.front.manifests import Manifests
from cluster.runtime.front.model import Manifest, Model, read_checked
from cluster.runtime.gguf import NotGguf
from cluster.runtime.models import FetchFailed, KnownModel, Mirrors, bytes_on_the_way, fetch

PULL_LINE_S = 0.5
MAX_MODELS = 1000
MEGABYTE = 1_000_000


class Library:
    """The models, by full name."""

    def __init__(self, *, store: Path, cache: Path, mirrors: Mirrors) -> None:
        self.cache, self.mirrors = cache, mirrors
        self.blobs = Blobs(store / "blobs")
        self.manifests = Manifests(store / "manifests")
        self.models: dict[str, Model] = {}
        self.unreadable: list[str] = []  # what of the store cannot be read, in words
        self._fetched: KnownModel | None = None  # what is being fetched now
        self._failed = ""  # why the last fetch brought nothing
        self._changing = asyncio.Lock()
        self._lock_file = store / "lock"
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Read the store; remove blobs that no model refers to, unless something cannot be read.

        A store that another front has open is read, and nothing of it removed.
        """
        kept = set()
        for found in self.manifests.read_all():
            if isinstance(found, Path):
                self.unreadable.append(f"the manifest {found} cannot be read")
                continue
            kept.add(found.weights)
            try:
                self.models[found.name] = self._model(found)
            except (OSError, NotGguf) as wrong:
                self.unreadable.append(f"{found.name}: {wrong}")
        self._lock = self._lock_file.open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        if not self.unreadable:
            self.blobs.prune(kept)

    def close(self) -> None:
        """Let another front have the store."""
        if self._lock:
            self._lock.close()

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

    @property
    def problem(self) -> str:
        """Why there is no model yet, in words; empty: there is one."""
        if self.models:
            return ""
        known = self._fetched
        tenths = 10 * bytes_on_the_way(known, self.cache) // known.size_bytes if known else 0
        if known and (tenths or not self._failed):  # in tenths: each change is told to the whole platform
            return f"{known.name} is being fetched: {10 * tenths} % of {known.size_bytes // MEGABYTE} MB"
        return self._failed or dialect.NO_MODEL

    # --- changes: each goes on to its end, also when whoever asked for it leaves ----------------------------------------------------

    async def put(self, manifest: Manifest) -> None:
        """Have a model, in place of one of the same name.

        Raises:
            BadRequest: There are too many, or its file is not there, or none that we can read.
        """
        await asyncio.shield(self._put(manifest))

    async def _put(self, manifest: Manifest) -> None:
        async with self._changing:
            replaced = self.models.get(manifest.name)
            if replaced is None and len(self.models) >= MAX_MODELS:
                raise BadRequest(f"{MAX_MODELS} models are here already; delete some first")
            try:
                model = await asyncio.to_thread(self._model, manifest)
                await asyncio.to_thread(self.manifests.write, manifest)
                written_at = self.manifests.written_at(manifest.name)
            except FileNotFoundError:
                raise BadRequest(f'blob "sha256:{manifest.weights}" not found') from None
            except NotGguf as wrong:
                raise BadRequest(f"not a GGUF file: {wrong}") from wrong
            except OSError as full:
                raise BadRequest(f"the model cannot be kept: {full.strerror}", 500) from full
            self.models[manifest.name] = replace(model, modified_at=written_at)
            if replaced:
                await self._drop(replaced)

    async def remove(self, model: Model) -> None:
        """Forget a model, and its file unless another model has the same."""
        await asyncio.shield(self._remove(model))

    async def _remove(self, model: Model) -> None:
        async with self._changing:
            if self.models.pop(model.name, None):
                await asyncio.to_thread(self.manifests.remove, model.name)
                await self._drop(model)

    async def _drop(self, model: Model) -> None:
        weights = model.manifest.weights
        if all(other.manifest.weights != weights for other in self.models.values()):
            await asyncio.to_thread(self.blobs.remove, weights)

    def _model(self, manifest: Manifest) -> Model:
        path = self.blobs.path(manifest.weights)
        metadata = read_checked(path)
        if path.stat().st_size != manifest.size_bytes:
            raise NotGguf(f"{path.name} is not as long as it was")
        return Model(manifest=manifest, path=path, modified_at=self.manifests.written_at(manifest.name), metadata=metadata)

    # --- models that we know how to fetch -------------------------------------------------------------------------------------------

    async def add(self, known: KnownModel) -> None:
        """Fetch a model that we know, and have it.

        Raises:
            FetchFailed: It cannot be had.
        """
        self._fetched = known
        try:
            await self._add(known)
            self._failed = ""
        except FetchFailed as failed:
            self._failed = str(failed)
            raise
        finally:
            self._fetched = None

    async def _add(self, known: KnownModel) -> None:
        try:
            if self.blobs.size(known.gguf_sha256) != known.size_bytes:  # not there, or damaged
                self.blobs.remove(known.gguf_sha256)
                fetched = await asyncio.to_thread(fetch, known, self.cache, self.mirrors)
                await asyncio.to_thread(self.blobs.adopt, fetched, known.gguf_sha256)
            await self.put(Manifest(name=known.name, weights=known.gguf_sha256, size_bytes=known.size_bytes, license=(known.license,)))
        except BadRequest as refused:
            raise FetchFailed(refused.text) from refused
        except OSError as full:
            raise FetchFailed(f"{known.name} cannot be kept: {full.strerror}") from full

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

"""How many models the embedded front holds in memory, which one goes first, and that nobody's answer is cut for it."""

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cluster.runtime.child import ChildFailed
from cluster.runtime.front.library import Library
from cluster.runtime.front.memory import Memory
from cluster.runtime.front.model import Manifest
from cluster.runtime.models import SMOLLM2, Mirrors, cache_folder, fetch
from tests.front_in_process import MODEL
from tests.waiting import until

pytestmark = [pytest.mark.model, pytest.mark.slow]


@pytest.fixture
async def library(tmp_path):
    shelf = Library(store=tmp_path, cache=cache_folder(), mirrors=Mirrors())
    shelf.open()
    shelf.blobs.adopt(await asyncio.to_thread(fetch, SMOLLM2, cache_folder(), Mirrors()), SMOLLM2.gguf_sha256)
    for name in ("a:1", "b:1", "c:1"):
        await shelf.put(Manifest(name=name, weights=SMOLLM2.gguf_sha256, size_bytes=SMOLLM2.size_bytes))
    yield shelf
    shelf.close()


@asynccontextmanager
async def memory_of(**limits):
    memory = Memory(slots=1, context_tokens=64, **limits)
    await memory.start()
    watching = asyncio.create_task(memory.watch())
    try:
        yield memory
    finally:
        watching.cancel()
        await memory.close()


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_where_no_more_may_be_loaded_the_idle_one_that_would_go_first_goes(library):
    async with memory_of(max_loaded=2) as memory:
        await memory.load(library.find("a:1"), {}, 600)
        await memory.load(library.find("b:1"), {}, 60)
        await memory.load(library.find("c:1"), {}, None)
        assert set(memory.loaded) == {"a:1", "c:1"}


async def test_a_model_that_is_used_stays_and_the_next_one_waits_for_it(library):
    async with memory_of(max_loaded=1) as memory:
        async with memory.slot(library.find("a:1"), {}, None):
            other = asyncio.create_task(memory.load(library.find("b:1"), {}, None))
            await asyncio.wait((other,), timeout=0.3)
            assert set(memory.loaded) == {"a:1"}
        await other
        assert set(memory.loaded) == {"b:1"}


async def test_another_file_under_the_same_name_is_loaded_anew(library):
    async with memory_of() as memory:
        await memory.load(library.find("a:1"), {}, None)
        library.blobs.path("0" * 64).write_bytes(MODEL)
        await library.put(Manifest(name="a:1", weights="0" * 64, size_bytes=len(MODEL)))
        with pytest.raises(ChildFailed, match="while loading"):  # it has no weights
            await memory.load(library.find("a:1"), {}, None)
        assert memory.loaded == {}
        await memory.load(library.find("b:1"), {}, None)


async def test_a_load_that_nobody_waits_for_any_more_is_ended(library):
    async with memory_of() as memory:
        before = children()
        load = asyncio.create_task(memory.load(library.find("a:1"), {}, None))
        await until(lambda: children() - before)
        (child,) = children() - before
        load.cancel()
        await until(lambda: not is_running(child))
        assert memory.loaded == {}
        await memory.load(library.find("a:1"), {}, None)


def children():
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}

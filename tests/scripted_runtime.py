"""A scripted runtime: a real HTTP server that speaks Ollama's API and does what the model's name says.

    fake:words=N   answers N words, one line each (their text follows from the prompt)      fake:drip=S   one word every S seconds
    fake:long=N@S  answers N words, one every S seconds
    fake:hang@N    stops for ever after N words        fake:cut@N    drops the connection after N words
    fake:exit@N    drops every connection after N words, and takes no new one: the runtime is gone
    fake:500       answers 500      fake:404  says that the model is gone      fake:503  says that it is busy
    fake:nodone    ends without `done`                 fake:garbage  writes nonsense
    fake:line=N    writes one line of N megabytes      fake:utf8     writes text that is not UTF-8
    fake:tools     calls the first tool it is given    fake:thinks   thinks three words, then answers eight
    fake:sees      reads images                        fake:fills    fills the middle of a text       fake:embeds    embeds

Any reader can verify any answer: `words_of(prompt, n)` tells the text; raw generation goes on with it after a rendered chat and what was
said of its answer. Runs in tests and as `python -m tests.scripted_runtime --port 0`; with `--contract` it has the model `smollm2:135m` and
passes `tests/contract/test_ollama_contract.py`.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiohttp import web

from cluster.runtime import dialect
from cluster.runtime.dialect import BadRequest
from cluster.runtime.models import SMOLLM2
from tests.scripted_models import (
    FakeModel,
    cut_at,
    fake,
    formatted,
    pieces_after,
    rendered,
    said_before,
    shaped,
    vector_of,
    words_of,
)

MODELS = ("fake:words=3", "fake:words=16", "fake:words=200", "fake:drip=0.1", "fake:drip=5", "fake:long=200@0.01", "fake:hang@0", "fake:hang@2",
          "fake:cut@0", "fake:cut@2", "fake:500", "fake:404", "fake:503", "fake:exit@2", "fake:nodone", "fake:garbage", "fake:line=100",
          "fake:utf8", "fake:tools", "fake:thinks", "fake:sees", "fake:fills", "fake:embeds")  # fmt: skip
USUAL_KEEP_ALIVE_S = 1800.0  # of a model that a request without `keep_alive` loads
ANSWER_WORDS = 8  # of a model whose name says nothing
FOR_EVER = timedelta(days=365 * 290)
BUSY = "server busy, please try again.  maximum pending requests exceeded"
STATE: web.AppKey["Script"] = web.AppKey("script")
__all__ = ["MODELS", "Script", "create_app", "rendered", "serve", "words_of"]


class Script:
    """What the server was asked, how many answers it is giving now, and what it has."""

    def __init__(self, *, is_contract: bool = False) -> None:
        self.requests: list[dict] = []
        self.running = 0
        self.has_tokenizer = False
        self.slots: int | None = None
        self.is_down = False
        self.is_gone = False  # as if its process had ended
        self.always: str | None = None  # behaves as this model, whatever is asked
        self.peers: set[object] = set()  # one per connection that answers came through
        self.transports: set[asyncio.BaseTransport] = set()
        smollm2 = shaped(SMOLLM2.name, SMOLLM2.gguf_sha256)
        self.pullable: dict[str, FakeModel] = {smollm2.name: smollm2}
        self.pull_ends_early = False
        self.models: dict[str, FakeModel] = {smollm2.name: smollm2} if is_contract else {name: fake(name) for name in MODELS}
        self.loads: list[str] = []  # names, as loads began
        self.loading = 0
        self.most_loading = 0
        self.load_gate: asyncio.Event | None = None  # loads wait for it
        self.load_failure: str | None = None

    def unload(self, name: str) -> None:
        """Make a model cold."""
        self.models[name].unload_at = None


@dataclass(frozen=True)
class Behavior:
    """What a model's name says: the action, its number, and seconds per word."""

    action: str
    value: float = 0
    pace_s: float = 0


def behavior(model: str) -> Behavior:
    """Read a model's name."""
    if not model.startswith("fake:"):
        return Behavior("words", ANSWER_WORDS)
    action, _, rest = model.removeprefix("fake:").replace("@", "=", 1).partition("=")
    if action == "drip":
        return Behavior("words", 200, float(rest))
    if action == "long":
        count, _, pace = rest.replace("@", "=").partition("=")
        return Behavior("words", float(count), float(pace))
    if action in {"tools", "thinks", "sees", "fills"}:
        return Behavior(action, ANSWER_WORDS)
    if action in {"nodone", "garbage", "utf8"}:
        return Behavior(action, 6)
    return Behavior(action, float(rest or 0))


# --- the frame --------------------------------------------------------------------------------------------------------------------------


@web.middleware
async def in_ollamas_words(request: web.Request, handler):
    """Turn refusals into Ollama's answers; refuse a foreign Host; be gone when the script says so."""
    script = request.app[STATE]
    assert request.transport is not None
    script.transports.add(request.transport)
    try:
        if script.is_gone:
            request.transport.abort()
            return web.Response(status=500)
        host = request.host.rsplit(":", 1)[0]
        if not (host == "localhost" or host.replace(".", "").isdigit()):
            return web.Response(status=403)
        return await handler(request)
    except BadRequest as wrong:
        return web.json_response({"error": wrong.text}, status=wrong.status)
    finally:
        script.transports.discard(request.transport)


async def body_of(request: web.Request) -> dict:
    return dialect.checked_body(await request.read())


def find(script: Script, name: object) -> FakeModel:
    """Find a model; names that say what they do need not be listed."""
    if not isinstance(name, str) or not name:
        raise BadRequest("model is required")
    known = script.models.get(name) or script.models.get(dialect.full_name(name))
    if known is None and name.startswith("fake:") and "fake:words=3" in script.models:
        known = fake(name)
    if known is None:
        raise BadRequest(f"model '{name}' not found", 404)
    return known


async def obtain(script: Script, model: FakeModel, options: dict, keep_alive_s: float | None) -> None:
    """Have a model loaded, with the context that is asked for."""
    wanted = int(options.get("num_ctx") or model.context_tokens)
    if not model.is_loaded or wanted != model.context_tokens:
        script.loads.append(model.name)
        script.loading += 1
        script.most_loading = max(script.most_loading, script.loading)
        try:
            if script.load_gate:
                await script.load_gate.wait()
        finally:
            script.loading -= 1
        if script.load_failure:
            raise BadRequest(script.load_failure, 500)
        model.keep_alive_s = USUAL_KEEP_ALIVE_S
        model.context_tokens = wanted
    if keep_alive_s is not None:
        model.keep_alive_s = keep_alive_s
    model.touch()


@contextmanager
def running(script: Script, model: FakeModel):
    """Count an answer; a model that is to be unloaded goes after its last one."""
    script.running += 1
    model.running += 1
    try:
        yield
    finally:
        script.running -= 1
        model.running -= 1
        if model.unload_at is not None:
            model.touch()


# --- answers ----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A chat or a generation, checked: what the answer follows from, what was said of it, and how it is wanted."""

    prompt: str
    partial: str
    prompt_words: int
    options: dict
    format: object
    wants_logprobs: bool
    wants_stream: bool


async def answer(request: web.Request) -> web.StreamResponse:
    """`POST /api/chat` and `/api/generate`."""
    script = request.app[STATE]
    body = await body_of(request)
    script.peers.add(request.transport and request.transport.get_extra_info("peername"))
    script.requests.append(body) if len(script.requests) < 1000 else None
    is_chat = request.path.endswith("chat")
    if not is_chat and not body.get("model"):
        raise BadRequest("model '' not found", 404)
    model = find(script, body.get("model"))
    does = behavior(script.always or model.name)
    if does.action == "500" or script.is_down:
        return web.json_response({"error": "scripted failure"}, status=500)
    if does.action == "404":
        raise BadRequest(f"model '{body['model']}' not found", 404)
    if does.action == "503":
        raise BadRequest(BUSY, 503)
    keep_alive_s = dialect.keep_alive_s(body.get("keep_alive"))
    messages = messages_of(seen(body) if does.action == "sees" else body, is_chat=is_chat)
    asked = asked_of(model, body, messages)
    head = {"model": body["model"], "created_at": now_text()}
    if not messages and not body.get("prompt"):
        return web.json_response(head | await load_or_unload(script, model, asked.options, keep_alive_s, is_chat=is_chat))
    await obtain(script, model, asked.options, keep_alive_s)
    if body.get("_debug_render_only"):
        return web.json_response(head | {"_debug_info": {"rendered_template": rendered(messages)}})
    with running(script, model):
        return await speak(request, model, body, asked, does, is_chat=is_chat)


def seen(body: dict) -> dict:
    """The same without its images."""
    messages = [{name: value for name, value in one.items() if name != "images"} for one in body.get("messages") or []]
    return body | {"messages": messages}


def messages_of(body: dict, *, is_chat: bool) -> list[dict]:
    """The messages of a chat, or those that a generation with a prompt means; none for a raw one."""
    if is_chat:
        return dialect.checked_messages(body.get("messages"))
    if body.get("raw"):
        if body.get("system") or body.get("template") or body.get("context"):
            raise BadRequest("raw mode does not support template, system, or context")
        return []
    system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    return [*system, {"role": "user", "content": body["prompt"]}] if body.get("prompt") else []


def asked_of(model: FakeModel, body: dict, messages: list[dict]) -> Asked:
    dialect.refuse_what_it_cannot(body, body["model"], list(model.capabilities))
    dialect.response_format(body.get("format"))
    wants_logprobs = bool(dialect.logprob_request(body))
    options = dialect.checked_options(body.get("options"))
    context = int(options.get("num_ctx") or model.context_tokens)
    while (count := sum(len(one["content"].split()) for one in messages)) > context:
        if body.get("truncate") is False:
            raise BadRequest("the input length exceeds the context length")
        messages.pop(0)
    prompt, partial = (messages[-1]["content"], "") if messages else said_before(body.get("prompt") or "")
    return Asked(
        prompt, partial, count or len(prompt.split()), options, body.get("format"), wants_logprobs, body.get("stream") is not False
    )


async def load_or_unload(script: Script, model: FakeModel, options: dict, keep_alive_s: float | None, *, is_chat: bool) -> dict:
    if keep_alive_s == 0:
        model.keep_alive_s = 0
        if not model.running:
            model.unload_at = None
    else:
        await obtain(script, model, options, keep_alive_s)
    shape = {"message": {"role": "assistant", "content": ""}} if is_chat else {"response": ""}
    return {**shape, "done": True, "done_reason": "unload" if keep_alive_s == 0 else "load"}


SPEAKING = {"words", "nodone", "garbage", "utf8", "tools", "thinks", "sees", "fills"}


def pieces_of(asked: Asked, does: Behavior) -> tuple[list[str], str]:
    """What is said, piece by piece, and why it ends."""
    limit = int(asked.options.get("num_predict", 10_000))
    limit = limit if limit > 0 else 10_000
    full = int(does.value) if does.action in SPEAKING else max(6, int(does.value) + 1)
    words = formatted(asked.format, words_of(asked.prompt, 6)) if asked.format else words_of(asked.prompt, full)
    stops = asked.options.get("stop") or []
    said = cut_at(pieces_after(words, asked.partial), stops)[:limit]
    return said, "length" if len(said) == limit else "stop"


async def speak(request: web.Request, model: FakeModel, body: dict, asked: Asked, does: Behavior, *, is_chat: bool) -> web.StreamResponse:
    """Say it, as scripted."""
    script = request.app[STATE]
    began = time.monotonic_ns()
    said, reason = pieces_of(asked, does)

    def line(text: str, **more: object) -> dict:
        piece = {"message": {"role": "assistant", "content": text}} if is_chat else {"response": text}
        return {"model": body["model"], "created_at": now_text(), **piece, "done": False, **more}

    def logprobs(pieces: list[str]) -> dict:
        rows = [{"token": one, "logprob": -0.5, "bytes": list(one.encode()), "top_logprobs": []} for one in pieces]
        return {"logprobs": rows} if asked.wants_logprobs else {}

    def end(text: str) -> dict:
        spent = max(3, time.monotonic_ns() - began)
        return line(
            text, done=True, done_reason=reason, total_duration=spent, load_duration=1, prompt_eval_count=asked.prompt_words + 3,
            prompt_eval_duration=1, eval_count=len(said), eval_duration=spent - 2,
        )  # fmt: skip

    told = told_otherwise(does, body, asked)
    if not asked.wants_stream:
        await asyncio.sleep(does.pace_s * len(said))
        return web.json_response(end("".join(said)) | logprobs(said))
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    for message in told:
        await response.write(json.dumps(line("") | {"message": message}).encode() + b"\n")
        if message.get("tool_calls"):
            said = []
    for n, word in enumerate(said):
        if does.action in {"hang", "cut", "exit"} and n == int(does.value):
            await break_off(request, script, does.action)
            return response
        if does.pace_s:
            await asyncio.sleep(does.pace_s)
        if does.action == "line":
            await write_long_line(response, int(does.value))
            return response
        await response.write(RAW.get(does.action) or json.dumps(line(word) | logprobs([word])).encode() + b"\n")
    if does.action != "nodone":
        await response.write(json.dumps(end("")).encode() + b"\n")
    return response


def told_otherwise(does: Behavior, body: dict, asked: Asked) -> list[dict]:
    """What is said besides words: thoughts, or the call of a tool, which takes the place of an answer."""
    if does.action == "thinks" and body.get("think") is not False:
        return [{"role": "assistant", "content": "", "thinking": word} for word in words_of(asked.prompt + "?", 3)]
    if does.action == "tools" and body.get("tools"):
        function = body["tools"][0]["function"]
        arguments = dict.fromkeys((function.get("parameters") or {}).get("properties") or {}, "x")
        return [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": function["name"], "arguments": arguments}}]}]
    return []


RAW = {
    "garbage": b"\xff\xfenonsense{\n",
    "utf8": b'{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"\xc3\x28"},"done":false}\n',
}


async def break_off(request: web.Request, script: Script, action: str) -> None:
    if action == "hang":
        await asyncio.Event().wait()
    script.is_gone = action == "exit"
    for transport in list(script.transports) if script.is_gone else [request.transport]:
        assert transport is not None
        transport.abort()


async def write_long_line(response: web.StreamResponse, megabytes: int) -> None:
    await response.write(b'{"message":{"role":"assistant","content":"')
    for _ in range(megabytes):
        await response.write(b"x" * 2**20)
    await response.write(b'"},"done":false}\n')


async def embed(request: web.Request) -> web.Response:
    """`POST /api/embed`."""
    script, body = request.app[STATE], await body_of(request)
    script.requests.append(body)
    model = find(script, body.get("model"))
    given = body.get("input")
    inputs = [] if given in (None, "", []) else [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        raise BadRequest("invalid input type")
    keep_alive_s = dialect.keep_alive_s(body.get("keep_alive"))
    if keep_alive_s == 0 and not inputs:
        model.unload_at = None
    else:
        await obtain(script, model, {}, keep_alive_s)
    vectors = [vector_of(text) for text in inputs]
    count = sum(len(text.split()) for text in inputs)
    return web.json_response({"model": body["model"], "embeddings": vectors, "total_duration": 1, "prompt_eval_count": count})


# --- what is there ----------------------------------------------------------------------------------------------------------------------


def now_text() -> str:
    """The time as Ollama writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


async def root(request: web.Request) -> web.Response:
    """`GET /`."""
    return web.Response(text="Ollama is running")


async def version(request: web.Request) -> web.Response:
    """`GET /api/version`."""
    script = request.app[STATE]
    if script.is_down:
        return web.Response(status=500)
    said: dict = {"version": "0.32.15"}
    if script.has_tokenizer:
        said["gfe_runtime"] = "embedded"
    if script.slots:
        said["gfe_slots"] = script.slots
    return web.json_response(said)


async def tags(request: web.Request) -> web.Response:
    """`GET /api/tags`."""
    models = sorted(request.app[STATE].models.values(), key=lambda model: -model.modified_at)
    rows = [
        {
            "name": model.name, "model": model.name, "size": model.size_bytes, "digest": manifest_of(model), "details": model.details,
            "modified_at": datetime.fromtimestamp(model.modified_at, UTC).isoformat(),
        }
        for model in models
    ]  # fmt: skip
    return web.json_response({"models": rows})


def manifest_of(model: FakeModel) -> str:
    """The digest that tags and ps tell: of name and content, not of the file alone."""
    return hashlib.sha256(f"{model.name}\n{model.sha256}\n{model.parameters}".encode()).hexdigest()


async def ps(request: web.Request) -> web.Response:
    """`GET /api/ps`."""
    rows = []
    for model in request.app[STATE].models.values():
        if not model.is_loaded:
            continue
        left = (model.unload_at or 0) - time.monotonic()
        until = datetime.now(UTC) + (FOR_EVER if left == float("inf") else timedelta(seconds=max(0, left)))
        rows.append(
            {
                "name": model.name, "model": model.name, "size": model.memory_bytes, "size_vram": int(model.memory_bytes * model.vram_share),
                "digest": manifest_of(model), "details": model.details, "expires_at": until.isoformat(), "context_length": model.context_tokens,
            }
        )  # fmt: skip
    return web.json_response({"models": rows})


async def show(request: web.Request) -> web.Response:
    """`POST /api/show`."""
    body = await body_of(request)
    model = find(request.app[STATE], body.get("model") or body.get("name"))
    return web.json_response(
        {
            "modelfile": f"FROM /models/sha256-{model.sha256}\n", "parameters": model.parameters, "template": rendered([]), "system": "",
            "license": model.license, "details": model.details, "model_info": model.info, "capabilities": list(model.capabilities),
            "modified_at": datetime.fromtimestamp(model.modified_at, UTC).isoformat(),
        }
    )  # fmt: skip


async def tokenize(request: web.Request) -> web.Response:
    """Our own extra route: one token per word."""
    body = await body_of(request)
    text = body.get("content") or " ".join(message["content"] for message in body.get("messages") or [])
    return web.json_response({"tokens": len(text.split())})


async def pull(request: web.Request) -> web.StreamResponse:
    """`POST /api/pull`."""
    script, body = request.app[STATE], await body_of(request)
    name = dialect.full_name(str(body.get("model") or body.get("name") or ""))
    found = script.pullable.get(name)
    missing = "pull model manifest: file does not exist"
    if body.get("stream") is False:
        if found is None:
            raise BadRequest(missing, 500)
        script.models[name] = found
        return web.json_response({"status": "success"})
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    lines: list[dict] = [{"status": "pulling manifest"}]
    if found is None:
        lines.append({"error": missing})
    else:
        layer = {"status": f"pulling {found.sha256[:12]}", "digest": f"sha256:{found.sha256}", "total": found.size_bytes}
        lines += [layer | {"completed": found.size_bytes * part // 4} for part in range(5)]
        if not script.pull_ends_early:
            lines += [{"status": "verifying sha256 digest"}, {"status": "writing manifest"}, {"status": "success"}]
            script.models[name] = found
    for line in lines:
        await response.write(json.dumps(line).encode() + b"\n")
    return response


async def copy(request: web.Request) -> web.Response:
    """`POST /api/copy`."""
    script, body = request.app[STATE], await body_of(request)
    source = script.models.get(dialect.full_name(str(body.get("source"))))
    if source is None:
        raise BadRequest(f'model "{body.get("source")}" not found', 404)
    name = dialect.full_name(str(body.get("destination")))
    script.models[name] = FakeModel(
        name=name,
        sha256=source.sha256,
        size_bytes=source.size_bytes,
        info=source.info,
        license=source.license,
        capabilities=source.capabilities,
    )
    return web.Response()


async def delete(request: web.Request) -> web.Response:
    """`DELETE /api/delete`."""
    script, body = request.app[STATE], await body_of(request)
    model = find(script, body.get("model") or body.get("name"))
    del script.models[model.name]
    return web.Response()


def create_app(script: Script | None = None) -> web.Application:
    """Build the application."""
    app = web.Application(client_max_size=2**26, middlewares=[in_ollamas_words])
    app[STATE] = script or Script()
    for path, get in (("/", root), ("/api/version", version), ("/api/tags", tags), ("/api/ps", ps)):
        app.router.add_get(path, get)
    for path, post in (
        ("/api/show", show), ("/api/chat", answer), ("/api/generate", answer), ("/api/embed", embed), ("/api/pull", pull), ("/api/copy", copy),
        ("/gfe/tokenize", tokenize),
    ):  # fmt: skip
        app.router.add_post(path, post)
    app.router.add_delete("/api/delete", delete)
    return app


async def serve(script: Script, port: int = 0) -> tuple[web.AppRunner, str]:
    """Serve; answers what stops it and its URL."""
    runner = web.AppRunner(create_app(script), handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def main(port: int, *, is_contract: bool) -> None:
    """Serve for ever; the first line tells where."""
    _runner, url = await serve(Script(is_contract=is_contract), port)
    sys.stdout.write(json.dumps({"pid": os.getpid(), "port": int(url.rpartition(":")[2])}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--contract", action="store_true")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.port, is_contract=arguments.contract))

"""Our own Ollama API for machines without Ollama: aiohttp in front, one child process per loaded model behind.

    python -m cluster.runtime.front --host 127.0.0.1 --port 0 --store DIR

The first line on standard output is JSON `{"pid", "port"}`; lines about the model's fetch follow. One route is not Ollama's:
`POST /gfe/tokenize` counts tokens, so that the platform can count by itself.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from cluster.runtime import dialect
from cluster.runtime.child import Child, ChildFailed, missing_cpu_flags, start_child
from cluster.runtime.dialect import BadRequest
from cluster.runtime.models import KNOWN, SMOLLM2, FetchFailed, KnownModel, Model, bytes_on_the_way, cache_folder, install

VERSION = "0.32.15"  # the Ollama whose contract this front keeps
MAX_WAITING = 512
KEEP_ALIVE_S = 1800.0
MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_EMBED_TOKENS = 512
PULL_LINE_S = 0.5
NO_SUCH_MANIFEST = "pull model manifest: file does not exist"
FOR_EVER = timedelta(days=365 * 290)
BUSY = "server busy, please try again.  maximum pending requests exceeded"
DIED = "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error"
Json = dict[str, Any]
FRONT: web.AppKey["Front"] = web.AppKey("front")


@dataclass(slots=True)
class Loaded:
    """A model in memory."""

    model: Model
    child: Child
    keep_alive_s: float
    unload_at: float  # monotonic; moves with every use
    running: int = 0

    def touch(self) -> None:
        """Begin the time to live anew."""
        self.unload_at = time.monotonic() + self.keep_alive_s


class Front:
    """The models, what is loaded, and who waits."""

    def __init__(self, *, store: Path, cache: Path, slots: int, context_tokens: int) -> None:
        self.store, self.cache = store, cache
        self.slots, self.context_tokens = slots, context_tokens
        self.models: dict[str, Model] = {}
        self.loaded: dict[str, Loaded] = {}
        self.waiting = 0
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._loading = asyncio.Lock()
        self.session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session to the children."""
        timeout = aiohttp.ClientTimeout(total=None, connect=3)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)  # the child ends idle connections just when one might use them again
        self.session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)

    async def close(self) -> None:
        """End all children."""
        for loaded in list(self.loaded.values()):
            await loaded.child.stop()
        if self.session:
            await self.session.close()

    async def fetch_models(self) -> None:
        """Fetch what we know, say so, and load the first model so that the first request is fast."""
        for known in KNOWN.values():
            say(status="fetching", model=known.name, bytes=known.size_bytes)
            try:
                self.models[known.name] = await asyncio.to_thread(install, known, self.cache, self.store)
            except (FetchFailed, OSError) as failed:
                say(status="failed", model=known.name, error=str(failed))
                continue
            say(status="ready", model=known.name)
        if SMOLLM2.name in self.models:
            with suppress(ChildFailed):
                await self.obtain(SMOLLM2.name, {}, None)

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

    async def obtain(self, name: str, options: Json, keep_alive_s: float | None) -> Loaded:
        """Answer the loaded model; load it, or load it anew when another context is asked for. Loads go one by one.

        Raises:
            ChildFailed: It cannot be loaded.
        """
        model = self.find(name)
        context = min(model.context_tokens, max(16, int(options.get("num_ctx") or self.context_tokens)))
        async with self._loading:
            loaded = self.loaded.get(model.name)
            if loaded and (not loaded.child.is_alive or loaded.child.context_tokens != context):
                await self.unload(model.name)
                loaded = None
            if loaded is None:
                loaded = await self._load(model, context)
            if keep_alive_s is not None:
                loaded.keep_alive_s = keep_alive_s
            loaded.touch()
            return loaded

    async def _load(self, model: Model, context: int) -> Loaded:
        assert self.session is not None
        threads = max(1, (os.cpu_count() or 2) - 1)
        child = await start_child(model.path, context_tokens=context, slots=self.slots, threads=threads, session=self.session)
        loaded = Loaded(model, child, KEEP_ALIVE_S, time.monotonic() + KEEP_ALIVE_S)
        self.loaded[model.name] = loaded
        self._slots[model.name] = asyncio.Semaphore(self.slots)
        return loaded

    async def unload_when_idle(self, name: str) -> None:
        """Unload a model, after what runs on it now."""
        loaded = self.loaded.get(name)
        if loaded and loaded.running:
            loaded.keep_alive_s = 0
        else:
            await self.unload(name)

    async def pull(self, known: KnownModel) -> AsyncIterator[Json]:
        """Fetch a model and add it; yield Ollama's lines.

        Raises:
            FetchFailed: It cannot be had.
        """
        layer = {"status": f"pulling {known.gguf_sha256[:12]}", "digest": f"sha256:{known.gguf_sha256}", "total": known.size_bytes}
        fetching = asyncio.create_task(asyncio.to_thread(install, known, self.cache, self.store))
        while not fetching.done():
            yield layer | {"completed": await asyncio.to_thread(bytes_on_the_way, known, self.cache)}
            await asyncio.wait((fetching,), timeout=PULL_LINE_S)
        self.models[known.name] = fetching.result()
        yield layer | {"completed": known.size_bytes}
        for status in ("verifying sha256 digest", "writing manifest", "success"):
            yield {"status": status}

    async def unload(self, name: str) -> None:
        """End the model's child."""
        loaded = self.loaded.pop(name, None)
        if loaded:
            await loaded.child.stop()

    async def unload_idle(self) -> None:
        """Unload what was not used for its time to live; notice dead children."""
        while True:
            await asyncio.sleep(0.5)
            for name, loaded in list(self.loaded.items()):
                is_over = not loaded.running and time.monotonic() > loaded.unload_at
                if is_over or not loaded.child.is_alive:
                    await self.unload(name)

    @asynccontextmanager
    async def slot(self, name: str, options: Json, keep_alive_s: float | None) -> AsyncIterator[Loaded]:
        """Wait for a free slot of the loaded model.

        Raises:
            BadRequest: 503 when too many wait.
            ChildFailed: The model cannot be loaded.
        """
        if self.waiting >= MAX_WAITING:
            raise BadRequest(BUSY, 503)
        self.waiting += 1
        try:
            loaded = await self.obtain(name, options, keep_alive_s)
            slots = self._slots[loaded.model.name]
            await slots.acquire()
        finally:
            self.waiting -= 1
        loaded.running += 1
        try:
            yield loaded
        finally:
            loaded.running -= 1
            slots.release()
            loaded.touch()
            if loaded.keep_alive_s == 0 and not loaded.running:
                await self.unload(loaded.model.name)

    # --- calls to a child ----------------------------------------------------------------------------------------------------------

    async def call(self, loaded: Loaded, path: str, body: Json) -> Json:
        """Call a child and read its whole answer.

        Raises:
            BadRequest: The child refused.
            ChildFailed: The child died.
        """
        assert self.session is not None
        try:
            async with self.session.post(loaded.child.url + path, json=body, headers=_key(loaded)) as answer:
                said: Json = await answer.json()
                if answer.status != 200:
                    raise _refusal(answer.status, said)
                return said
        except (aiohttp.ClientError, ValueError) as broken:
            await loaded.child.settle()  # so that the next request finds it dead, and loads it anew
            raise ChildFailed(DIED) from broken

    async def events(self, loaded: Loaded, path: str, body: Json) -> AsyncIterator[Json]:
        """Stream a child's answer, event by event.

        Raises:
            BadRequest: The child refused.
            ChildFailed: The child died.
        """
        assert self.session is not None
        try:
            async with self.session.post(loaded.child.url + path, json=body | {"stream": True}, headers=_key(loaded)) as answer:
                if answer.status != 200:
                    raise _refusal(answer.status, await answer.json())
                async for line in answer.content:
                    if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
                        yield json.loads(line[6:])
                    elif line.startswith(b"error: "):
                        raise _refusal(500, json.loads(line[7:]))
        except (aiohttp.ClientError, ValueError) as broken:
            await loaded.child.settle()  # so that the next request finds it dead, and loads it anew
            raise ChildFailed(DIED) from broken

    async def count(self, loaded: Loaded, text: str, *, add_special: bool = False) -> int:
        """Count the tokens of a text."""
        said = await self.call(loaded, "/tokenize", {"content": text, "add_special": add_special, "parse_special": add_special})
        return len(said["tokens"])

    async def rendered(self, loaded: Loaded, messages: list[Json]) -> str:
        """Render messages with the model's chat template."""
        return str((await self.call(loaded, "/apply-template", {"messages": messages}))["prompt"])

    async def fitted(self, loaded: Loaded, messages: list[Json], *, truncate: bool) -> list[Json]:
        """Cut a history that is too long for the context, the oldest messages first, then the last one's beginning.

        A text has at most one token per byte, so most requests are not counted at all.

        Raises:
            BadRequest: Too long, and it must not be cut.
        """
        limit = loaded.child.context_tokens - 8
        if sum(len(message["content"].encode()) + 16 for message in messages) + 256 < limit:
            return messages
        others, tokens = sum(message["role"] != "system" for message in messages), 0
        for keep in range(others, 0, -1):
            kept = dialect.cut_history(messages, keep)
            tokens = await self.count(loaded, await self.rendered(loaded, kept), add_special=True)
            if tokens <= limit:
                return kept
            if not truncate:
                raise BadRequest("the input length exceeds the context length")
        last = dict(messages[-1])
        while tokens > limit and last["content"]:
            cut = max(1, len(last["content"]) * (tokens - limit) // tokens + 16)
            last["content"] = last["content"][cut:]
            tokens = await self.count(loaded, await self.rendered(loaded, [last]), add_special=True)
        return [last]


def _key(loaded: Loaded) -> dict[str, str]:
    return {"Authorization": f"Bearer {loaded.child.key}"}


def _refusal(status: int, said: Any) -> BadRequest:
    error = said.get("error", said) if isinstance(said, dict) else said
    text = error.get("message", str(error)) if isinstance(error, dict) else str(error)
    kind = error.get("type", "") if isinstance(error, dict) else ""
    if kind == "exceed_context_size_error":
        return BadRequest("the input length exceeds the context length")
    return BadRequest(text, 400 if status == 400 else 500)


def say(**fields: Any) -> None:
    """Print one JSON line for whoever started us."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def now_text() -> str:
    """The time as Ollama writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


# --- handlers ---------------------------------------------------------------------------------------------------------------------

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def body_of(request: web.Request) -> Json:
    """Read the body as JSON, whatever its Content-Type says."""
    return dialect.checked_body(await request.read())


@web.middleware
async def in_ollamas_words(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors into Ollama's answers; refuse a foreign Host."""
    host = request.host.rsplit(":", 1)[0]
    if not (host in {"localhost", "[::1]"} or host.replace(".", "").isdigit() or host.endswith((".localhost", ".local", ".internal"))):
        return web.Response(status=403)
    try:
        return await handler(request)
    except BadRequest as wrong:
        return web.json_response({"error": wrong.text}, status=wrong.status)
    except ChildFailed as failed:
        return web.json_response({"error": str(failed)}, status=500)
    except web.HTTPNotFound:
        return web.Response(text="404 page not found", status=404)
    except web.HTTPMethodNotAllowed:
        return web.Response(text="405 method not allowed", status=405)


async def root(request: web.Request) -> web.Response:
    """`GET /`."""
    return web.Response(text="Ollama is running")


async def version(request: web.Request) -> web.Response:
    """`GET /api/version`; beside Ollama's field what our own worker wants to know."""
    front = request.app[FRONT]
    return web.json_response({"version": VERSION, "gfe_runtime": "embedded", "gfe_slots": front.slots, "gfe_context": front.context_tokens})


def details(model: Model) -> Json:
    """A model's `details` object."""
    return {
        "parent_model": "", "format": "gguf", "family": model.architecture, "families": [model.architecture],
        "parameter_size": model.parameter_size, "quantization_level": "Q4_1" if "Q4_1" in SMOLLM2.member else "unknown",
        "context_length": model.context_tokens, "embedding_length": int(model.metadata.get(f"{model.architecture}.embedding_length", 0)),
    }  # fmt: skip


async def tags(request: web.Request) -> web.Response:
    """`GET /api/tags`."""
    models = sorted(request.app[FRONT].models.values(), key=lambda model: -model.modified_at)
    rows = [
        {
            "name": model.name, "model": model.name, "modified_at": datetime.fromtimestamp(model.modified_at, UTC).isoformat(),
            "size": model.size_bytes, "digest": model.digest, "details": details(model), "capabilities": model.capabilities,
        }
        for model in models
    ]  # fmt: skip
    return web.json_response({"models": rows})


async def show(request: web.Request) -> web.Response:
    """`POST /api/show`."""
    body = await body_of(request)
    front = request.app[FRONT]
    model = front.find(body.get("model") or body.get("name"))
    info = {name: value for name, value in model.metadata.items() if name != "tokenizer.chat_template"}
    info["general.parameter_count"] = info.pop("general.tensor_elements", 0)
    answer = {
        "modelfile": f"FROM {front.store}/sha256-{model.sha256}\nTEMPLATE {json.dumps(model.template)}\n", "parameters": "", "template": model.template,
        "system": "", "license": model.license, "details": details(model), "model_info": info, "capabilities": model.capabilities,
        "modified_at": datetime.fromtimestamp(model.modified_at, UTC).isoformat(),
    }  # fmt: skip
    return web.json_response(answer)


async def ps(request: web.Request) -> web.Response:
    """`GET /api/ps`."""
    rows = []
    for loaded in sorted(request.app[FRONT].loaded.values(), key=lambda one: -one.unload_at):
        left = loaded.unload_at - time.monotonic()
        until = datetime.now(UTC) + (FOR_EVER if left == float("inf") else timedelta(seconds=max(0, left)))
        model = loaded.model
        rows.append(
            {
                "name": model.name, "model": model.name, "size": resident_bytes(loaded.child.process.pid), "digest": model.digest,
                "details": details(model), "expires_at": until.isoformat(), "size_vram": 0, "context_length": loaded.child.context_tokens,
            }
        )  # fmt: skip
    return web.json_response({"models": rows})


def resident_bytes(pid: int) -> int:
    """How much memory a process has now; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


async def pull(request: web.Request) -> web.StreamResponse:
    """`POST /api/pull`: fetch one of the models that we know; success only if the last line says so."""
    front, body = request.app[FRONT], await body_of(request)
    name = body.get("model") or body.get("name")
    if not isinstance(name, str) or not dialect.MODEL_NAME.match(name):
        raise BadRequest("invalid model name")
    known = KNOWN.get(dialect.full_name(name))
    if body.get("stream") is False:
        if known is None:
            raise BadRequest(NO_SUCH_MANIFEST, 500)
        try:
            async for _ in front.pull(known):
                pass
        except (FetchFailed, OSError) as failed:
            raise BadRequest(str(failed), 500) from failed
        return web.json_response({"status": "success"})
    stream = await open_stream(request)
    await stream.write(b'{"status":"pulling manifest"}\n')
    try:
        if known is None:
            raise FetchFailed(NO_SUCH_MANIFEST)
        async for line in front.pull(known):
            await stream.write(json.dumps(line).encode() + b"\n")
    except (FetchFailed, OSError) as failed:
        await stream.write(json.dumps({"error": str(failed)}).encode() + b"\n")
    return stream


async def delete(request: web.Request) -> web.Response:
    """`DELETE /api/delete`: forget a model and its memory; its file stays in the user's cache."""
    front, body = request.app[FRONT], await body_of(request)
    model = front.find(body.get("model") or body.get("name"))
    del front.models[model.name]
    await front.unload(model.name)
    return web.Response()


async def tokenize(request: web.Request) -> web.Response:
    """`POST /gfe/tokenize`: count the tokens of `content`, or of `messages` as the model reads them."""
    body = await body_of(request)
    front = request.app[FRONT]
    loaded = await front.obtain(front.find(body.get("model")).name, {}, None)
    if body.get("messages") is not None:
        text = await front.rendered(loaded, dialect.checked_messages(body["messages"]))
        return web.json_response({"tokens": await front.count(loaded, text, add_special=True)})
    return web.json_response({"tokens": await front.count(loaded, str(body.get("content") or ""))})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A chat or a generation, checked."""

    name: str
    options: Json
    keep_alive_s: float | None
    request: Json
    messages: list[Json] | None  # None: raw generation
    wants_stream: bool
    truncate: bool


def asked_of(body: Json, name: str, messages: list[Json] | None, capabilities: list[str]) -> Asked:
    """Check what chat and generate have in common."""
    dialect.refuse_what_it_cannot(body, name, capabilities)
    options = dialect.checked_options(body.get("options"))
    request = dialect.sampling(options) | dialect.response_format(body.get("format")) | dialect.logprob_request(body)
    return Asked(
        name=name, options=options, keep_alive_s=dialect.keep_alive_s(body.get("keep_alive")), request=request, messages=messages,
        wants_stream=body.get("stream") is not False, truncate=body.get("truncate") is not False,
    )  # fmt: skip


async def chat(request: web.Request) -> web.StreamResponse:
    """`POST /api/chat`."""
    started = time.monotonic_ns()
    front, body = request.app[FRONT], await body_of(request)
    model = front.find(body.get("model"))
    asked = asked_of(body, body["model"], dialect.checked_messages(body.get("messages")), model.capabilities)
    if not asked.messages:
        return await load_or_unload(front, asked, {"message": {"role": "assistant", "content": ""}})
    if body.get("_debug_render_only"):
        return await render_only(front, asked)
    return await answer(request, front, asked, started, lambda text: {"message": {"role": "assistant", "content": text}})


async def generate(request: web.Request) -> web.StreamResponse:
    """`POST /api/generate`."""
    started = time.monotonic_ns()
    front, body = request.app[FRONT], await body_of(request)
    name = body.get("model") or ""
    if not name:
        raise BadRequest("model '' not found", 404)
    model = front.find(name)
    prompt, system = body.get("prompt") or "", body.get("system") or ""
    if not isinstance(prompt, str) or not isinstance(system, str):
        raise BadRequest("json: prompt and system must be strings")
    if body.get("suffix"):
        raise BadRequest(f"registry.ollama.ai/library/{dialect.full_name(name)} does not support insert")
    if body.get("raw") and (system or body.get("template") or body.get("context")):
        raise BadRequest("raw mode does not support template, system, or context")
    messages: list[Json] | None = [{"role": "system", "content": system}] if system else []
    assert messages is not None
    messages.append({"role": "user", "content": prompt})
    asked = asked_of(body, name, None if body.get("raw") else messages, model.capabilities)
    if not prompt:
        return await load_or_unload(front, asked, {"response": ""})
    if asked.messages is None:
        asked.request["prompt"] = prompt
    return await answer(request, front, asked, started, lambda text: {"response": text})


async def load_or_unload(front: Front, asked: Asked, shape: Json) -> web.Response:
    """An empty prompt loads the model, with `keep_alive: 0` it unloads it; one object, even when a stream was asked for."""
    if asked.keep_alive_s == 0:
        await front.unload_when_idle(front.find(asked.name).name)
    else:
        await front.obtain(asked.name, asked.options, asked.keep_alive_s)
    reason = "unload" if asked.keep_alive_s == 0 else "load"
    return web.json_response({"model": asked.name, "created_at": now_text(), **shape, "done": True, "done_reason": reason})


async def render_only(front: Front, asked: Asked) -> web.Response:
    """Answer the prompt as the model would read it, without running the model."""
    assert asked.messages is not None
    async with front.slot(asked.name, asked.options, asked.keep_alive_s) as loaded:
        prompt = await front.rendered(loaded, await front.fitted(loaded, asked.messages, truncate=asked.truncate))
    return web.json_response({"model": asked.name, "created_at": now_text(), "_debug_info": {"rendered_template": prompt}})


async def answer(request: web.Request, front: Front, asked: Asked, started_ns: int, shape: Callable[[str], Json]) -> web.StreamResponse:
    """Run a chat or a generation and answer it, as a stream of lines or as one object."""
    async with front.slot(asked.name, asked.options, asked.keep_alive_s) as loaded:
        loaded_ns = time.monotonic_ns()
        path, child_request = await child_request_of(front, loaded, asked)
        head = {"model": asked.name, "created_at": now_text()}
        texts: list[str] = []
        logprobs: list[Any] = []
        final: Json = {}
        reason: str | None = None
        stream: web.StreamResponse | None = None
        try:
            async for event in front.events(loaded, path, child_request):
                text, more_logprobs, ended = read_event(event)
                reason = ended or reason
                final = event if "timings" in event else final
                texts.append(text)
                logprobs += more_logprobs
                if text and asked.wants_stream:
                    if stream is None:
                        stream = await open_stream(request)
                    line = (
                        head
                        | {"created_at": now_text()}
                        | shape(text)
                        | {"done": False}
                        | ({"logprobs": more_logprobs} if more_logprobs else {})
                    )
                    await stream.write(json.dumps(line).encode() + b"\n")
        except (ChildFailed, BadRequest) as failed:
            if stream is None:
                raise
            await stream.write(json.dumps({"error": getattr(failed, "text", str(failed))}).encode() + b"\n")
            return stream
        end: Json = head | {"created_at": now_text()} | shape("" if asked.wants_stream else "".join(texts)) | {"done": True}
        if reason:
            end["done_reason"] = reason
        if logprobs and not asked.wants_stream:
            end["logprobs"] = logprobs
        end |= dialect.metrics(final, started_ns=started_ns, loaded_ns=loaded_ns, now_ns=time.monotonic_ns())
    if not asked.wants_stream:
        return web.json_response(end)
    stream = stream or await open_stream(request)
    await stream.write(json.dumps(end).encode() + b"\n")
    return stream


async def child_request_of(front: Front, loaded: Loaded, asked: Asked) -> tuple[str, Json]:
    """Tell which route of the child serves it, and with what."""
    if asked.messages is None:
        return "/completion", asked.request
    messages = await front.fitted(loaded, asked.messages, truncate=asked.truncate)
    return "/v1/chat/completions", asked.request | {"messages": messages, "stream_options": {"include_usage": True}}


def read_event(event: Json) -> tuple[str, list[Any], str | None]:
    """Read a child's event: its text, its logprobs, and why it ended (None while it goes on)."""
    if "error" in event:
        raise _refusal(500, event)
    if "choices" not in event:  # raw completion
        ended = ("length" if event.get("stop_type") == "limit" else "stop") if event.get("stop") else None
        return str(event.get("content") or ""), [], ended
    if not event["choices"]:
        return "", [], None
    choice = event["choices"][0]
    logprobs = (choice.get("logprobs") or {}).get("content") or []
    reason = choice.get("finish_reason")
    return str((choice.get("delta") or {}).get("content") or ""), logprobs, reason if reason in {"stop", "length", None} else "stop"


async def open_stream(request: web.Request) -> web.StreamResponse:
    """Begin an NDJSON answer."""
    stream = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await stream.prepare(request)
    return stream


async def embed(request: web.Request) -> web.Response:
    """`POST /api/embed`."""
    started = time.monotonic_ns()
    front, body = request.app[FRONT], await body_of(request)
    model = front.find(body.get("model"))
    given = body.get("input")
    inputs = [] if given in (None, "", []) else [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not all(isinstance(text, str) for text in inputs):
        raise BadRequest("invalid input type")
    async with front.slot(model.name, {}, dialect.keep_alive_s(body.get("keep_alive"))) as loaded:
        loaded_ns = time.monotonic_ns()
        vectors, tokens = [], 0
        for text in inputs:
            fitting = await embeddable(front, loaded, text, truncate=body.get("truncate") is not False)
            said = await front.call(loaded, "/v1/embeddings", {"input": fitting})
            vectors.append(unit_vector(said["data"][0]["embedding"], body.get("dimensions")))
            tokens += int(said.get("usage", {}).get("prompt_tokens", 0))
    return web.json_response(
        {
            "model": body["model"], "embeddings": vectors, "total_duration": time.monotonic_ns() - started, "load_duration": loaded_ns - started,
            "prompt_eval_count": tokens,
        }
    )  # fmt: skip


async def embeddable(front: Front, loaded: Loaded, text: str, *, truncate: bool) -> str:
    """Cut a text to what can be embedded at once.

    Raises:
        BadRequest: Too long, and it must not be cut.
    """
    limit = min(loaded.child.context_tokens, MAX_EMBED_TOKENS) - 2
    while len(text.encode()) > limit and (tokens := await front.count(loaded, text)) > limit:
        if not truncate:
            raise BadRequest("the input length exceeds the context length")
        text = text[: len(text) * limit // tokens - 1]
    return text


def unit_vector(vector: list[float], dimensions: Any) -> list[float]:
    """Cut a vector to `dimensions` and give it length 1."""
    cut = vector[:dimensions] if isinstance(dimensions, int) and dimensions > 0 else vector
    length = sum(value * value for value in cut) ** 0.5 or 1.0
    return [value / length for value in cut]


def create_front_app(front: Front, *, fetches: bool = True) -> web.Application:
    """Build the application."""
    app = web.Application(middlewares=[in_ollamas_words], client_max_size=MAX_BODY_BYTES)
    app[FRONT] = front
    for path, handler in (("/", root), ("/api/version", version), ("/api/tags", tags), ("/api/ps", ps)):
        app.router.add_get(path, handler)
    for path, post in (
        ("/api/show", show), ("/api/chat", chat), ("/api/generate", generate), ("/api/embed", embed), ("/gfe/tokenize", tokenize),
        ("/api/pull", pull),
    ):  # fmt: skip
        app.router.add_post(path, post)
    app.router.add_delete("/api/delete", delete)

    async def life(app: web.Application) -> AsyncIterator[None]:
        await front.start()
        tasks = [asyncio.create_task(front.unload_idle())]
        if fetches:
            tasks.append(asyncio.create_task(front.fetch_models()))
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await front.close()

    app.cleanup_ctx.append(life)
    return app


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT."""
    front = Front(store=arguments.store, cache=arguments.model_cache, slots=arguments.slots, context_tokens=arguments.context)
    runner = web.AppRunner(create_front_app(front, fetches=arguments.fetch), handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, arguments.host, arguments.port)
    await site.start()
    say(pid=os.getpid(), port=runner.addresses[0][1])
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await runner.cleanup()


def main() -> None:
    """Run the front."""
    parser = argparse.ArgumentParser(description="An Ollama API over llama.cpp, for machines without Ollama.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--store", type=Path, required=True, help="folder of this installation's models")
    parser.add_argument("--model-cache", type=Path, default=cache_folder(), help="folder of fetched models")
    parser.add_argument("--slots", type=int, default=4, help="requests at once per model")
    parser.add_argument("--context", type=int, default=4096, help="tokens per slot")
    parser.add_argument("--no-fetch", dest="fetch", action="store_false", help="begin without models: they are pulled")
    arguments = parser.parse_args()
    missing = missing_cpu_flags(Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else ()
    if missing:
        sys.stderr.write(
            f"this processor lacks {', '.join(missing)}, which the embedded runtime needs\n\nhint: install Ollama and set GFE_OLLAMA_URL\n"
        )
        sys.exit(3)
    asyncio.run(serve(arguments))


if __name__ == "__main__":
    main()

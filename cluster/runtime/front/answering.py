"""Routes that run a model for text: chat and generate, as a stream of lines or as one object."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from cluster.runtime import dialect
from cluster.runtime.child import ChildFailed
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front import history
from cluster.runtime.front.http import LIBRARY, MEMORY, body_of, now_text, open_lines, write_line
from cluster.runtime.front.memory import Loaded, Memory
from cluster.runtime.front.runner import refusal
from cluster.runtime.models import Model

Shape = Callable[[str], Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A chat or a generation, checked."""

    name: str  # as sent
    model: Model
    options: Json
    keep_alive_s: float | None
    request: Json
    messages: list[Json] | None  # None: raw generation
    wants_stream: bool
    truncate: bool


def asked_of(body: Json, model: Model, messages: list[Json] | None) -> Asked:
    """Check what chat and generate have in common."""
    dialect.refuse_what_it_cannot(body, body["model"], model.capabilities)
    options = dialect.checked_options(body.get("options"))
    request = dialect.sampling(options) | dialect.response_format(body.get("format")) | dialect.logprob_request(body)
    return Asked(
        name=body["model"], model=model, options=options, keep_alive_s=dialect.keep_alive_s(body.get("keep_alive")), request=request,
        messages=messages, wants_stream=body.get("stream") is not False, truncate=body.get("truncate") is not False,
    )  # fmt: skip


async def chat(request: web.Request) -> web.StreamResponse:
    """`POST /api/chat`."""
    started = time.monotonic_ns()
    memory, body = request.app[MEMORY], await body_of(request)
    model = request.app[LIBRARY].find(body.get("model"))
    asked = asked_of(body, model, dialect.checked_messages(body.get("messages")))
    if not asked.messages:
        return await load_or_unload(memory, asked, chat_shape)
    if body.get("_debug_render_only"):
        return await render_only(memory, asked)
    return await answer(request, asked, started, chat_shape)


def chat_shape(text: str) -> Json:
    """A piece of a chat's answer."""
    return {"message": {"role": "assistant", "content": text}}


async def generate(request: web.Request) -> web.StreamResponse:
    """`POST /api/generate`."""
    started = time.monotonic_ns()
    body = await body_of(request)
    name = body.get("model") or ""
    if not name:
        raise BadRequest("model '' not found", 404)
    model = request.app[LIBRARY].find(name)
    prompt, system = body.get("prompt") or "", body.get("system") or ""
    if not isinstance(prompt, str) or not isinstance(system, str):
        raise BadRequest("json: prompt and system must be strings")
    if body.get("suffix"):
        raise BadRequest(f"registry.ollama.ai/library/{dialect.full_name(name)} does not support insert")
    if body.get("raw") and (system or body.get("template") or body.get("context")):
        raise BadRequest("raw mode does not support template, system, or context")
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    asked = asked_of(body, model, None if body.get("raw") else messages)
    if not prompt:
        return await load_or_unload(request.app[MEMORY], asked, generate_shape)
    if asked.messages is None:
        asked.request["prompt"] = prompt
    return await answer(request, asked, started, generate_shape)


def generate_shape(text: str) -> Json:
    """A piece of a generation."""
    return {"response": text}


async def load_or_unload(memory: Memory, asked: Asked, shape: Shape) -> web.Response:
    """An empty prompt loads the model, with `keep_alive: 0` it unloads it; one object, even when a stream was asked for."""
    if asked.keep_alive_s == 0:
        await memory.unload_when_idle(asked.model.name)
    else:
        await memory.obtain(asked.model, asked.options, asked.keep_alive_s)
    reason = "unload" if asked.keep_alive_s == 0 else "load"
    return web.json_response({"model": asked.name, "created_at": now_text(), **shape(""), "done": True, "done_reason": reason})


async def render_only(memory: Memory, asked: Asked) -> web.Response:
    """Answer the prompt as the model would read it, without running the model."""
    assert asked.messages is not None
    async with memory.slot(asked.model, asked.options, asked.keep_alive_s) as loaded:
        prompt = await loaded.runner.rendered(await history.fitted(loaded, asked.messages, truncate=asked.truncate))
    return web.json_response({"model": asked.name, "created_at": now_text(), "_debug_info": {"rendered_template": prompt}})


async def answer(request: web.Request, asked: Asked, started_ns: int, shape: Shape) -> web.StreamResponse:
    """Run a chat or a generation and answer it."""
    async with request.app[MEMORY].slot(asked.model, asked.options, asked.keep_alive_s) as loaded:
        loaded_ns = time.monotonic_ns()
        path, child_request = await child_request_of(loaded, asked)
        head = {"model": asked.name, "created_at": now_text()}
        texts: list[str] = []
        logprobs: list[Any] = []
        final: Json = {}
        reason: str | None = None
        stream: web.StreamResponse | None = None
        try:
            async for event in loaded.runner.events(path, child_request):
                text, more_logprobs, ended = read_event(event)
                reason = ended or reason
                final = event if "timings" in event else final
                texts.append(text)
                logprobs += more_logprobs
                if text and asked.wants_stream:
                    stream = stream or await open_lines(request)
                    line = head | {"created_at": now_text()} | shape(text) | {"done": False}
                    await write_line(stream, line | ({"logprobs": more_logprobs} if more_logprobs else {}))
        except (ChildFailed, BadRequest) as failed:
            if stream is None:
                raise
            await write_line(stream, {"error": getattr(failed, "text", str(failed))})
            return stream
        end: Json = head | {"created_at": now_text()} | shape("" if asked.wants_stream else "".join(texts)) | {"done": True}
        if reason:
            end["done_reason"] = reason
        if logprobs and not asked.wants_stream:
            end["logprobs"] = logprobs
        end |= dialect.metrics(final, started_ns=started_ns, loaded_ns=loaded_ns, now_ns=time.monotonic_ns())
    if not asked.wants_stream:
        return web.json_response(end)
    stream = stream or await open_lines(request)
    await write_line(stream, end)
    return stream


async def child_request_of(loaded: Loaded, asked: Asked) -> tuple[str, Json]:
    """Tell which route of the child serves it, and with what."""
    if asked.messages is None:
        return "/completion", asked.request
    messages = await history.fitted(loaded, asked.messages, truncate=asked.truncate)
    return "/v1/chat/completions", asked.request | {"messages": messages, "stream_options": {"include_usage": True}}


def read_event(event: Json) -> tuple[str, list[Any], str | None]:
    """Read a child's event: its text, its logprobs, and why it ended (None while it goes on)."""
    if "error" in event:
        raise refusal(500, event)
    if "choices" not in event:  # raw completion
        ended = ("length" if event.get("stop_type") == "limit" else "stop") if event.get("stop") else None
        return str(event.get("content") or ""), [], ended
    if not event["choices"]:
        return "", [], None
    choice = event["choices"][0]
    logprobs = (choice.get("logprobs") or {}).get("content") or []
    reason = choice.get("finish_reason")
    return str((choice.get("delta") or {}).get("content") or ""), logprobs, reason if reason in {"stop", "length", None} else "stop"

"""Routes that run a model for text: chat and generate, as a stream of lines or as one object."""

import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from cluster.runtime import dialect
from cluster.runtime.child import ChildFailed
from cluster.runtime.dialect import BadRequest, Json
from cluster.runtime.front import asking, history
from cluster.runtime.front.asking import Asked
from cluster.runtime.front.http import LIBRARY, MEMORY, body_of, now_text, open_lines, write_line
from cluster.runtime.front.memory import Loaded, Memory
from cluster.runtime.front.runner import refusal

Shape = Callable[[str], Json]


async def chat(request: web.Request) -> web.StreamResponse:
    """`POST /api/chat`."""
    started = time.monotonic_ns()
    body = await body_of(request)
    asked = asking.chat_of(body, request.app[LIBRARY].find(body.get("model")))
    return await _answered(request, asked, started, chat_shape)


def chat_shape(text: str) -> Json:
    """A piece of a chat's answer."""
    return {"message": {"role": "assistant", "content": text}}


async def generate(request: web.Request) -> web.StreamResponse:
    """`POST /api/generate`."""
    started = time.monotonic_ns()
    body = await body_of(request)
    if not body.get("model"):
        raise BadRequest("model '' not found", 404)
    asked = asking.generation_of(body, request.app[LIBRARY].find(body["model"]))
    return await _answered(request, asked, started, generate_shape)


def generate_shape(text: str) -> Json:
    """A piece of a generation."""
    return {"response": text}


async def _answered(request: web.Request, asked: Asked, started_ns: int, shape: Shape) -> web.StreamResponse:
    if asked.only_loads:
        return await load_or_unload(request.app[MEMORY], asked, shape)
    if asked.only_renders:
        return await render_only(request.app[MEMORY], asked)
    return await answer(request, asked, started_ns, shape)


async def load_or_unload(memory: Memory, asked: Asked, shape: Shape) -> web.Response:
    """An empty prompt loads the model, with `keep_alive: 0` it unloads it; one object, even when a stream was asked for."""
    if asked.keep_alive_s == 0:
        await memory.unload_when_idle(asked.model.name)
    else:
        await memory.load(asked.model, asked.options, asked.keep_alive_s)
    reason = "unload" if asked.keep_alive_s == 0 else "load"
    return web.json_response({"model": asked.name, "created_at": now_text(), **shape(""), "done": True, "done_reason": reason})


async def render_only(memory: Memory, asked: Asked) -> web.Response:
    """Answer the prompt as the model would read it, without running the model."""
    async with memory.slot(asked.model, asked.options, asked.keep_alive_s) as loaded:
        prompt = await prompt_for(loaded, asked)
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
    """Tell which route of the child serves it, and with what: the child renders with the file's template, we with Ollama's."""
    if asked.messages is None or asked.template:
        return "/completion", dialect.for_completion(asked.request) | {"prompt": await prompt_for(loaded, asked)}
    messages = await history.fitted(loaded, asked.messages, "", truncate=asked.truncate)
    return "/v1/chat/completions", asked.request | {"messages": messages, "stream_options": {"include_usage": True}}


async def prompt_for(loaded: Loaded, asked: Asked) -> str:
    """Write the prompt that the model reads."""
    if asked.messages is None:
        return asked.prompt
    messages = await history.fitted(loaded, asked.messages, asked.template, truncate=asked.truncate)
    return await history.rendered(loaded, messages, asked.template)


def read_event(event: Json) -> tuple[str, list[Any], str | None]:
    """Read a child's event: its text, its logprobs, and why it ended (None while it goes on)."""
    if "error" in event:
        raise refusal(500, event)
    if "choices" not in event:  # raw completion
        ended = ("length" if event.get("stop_type") == "limit" else "stop") if event.get("stop") else None
        return str(event.get("content") or ""), logprob_rows(event.get("completion_probabilities")), ended
    if not event["choices"]:
        return "", [], None
    choice = event["choices"][0]
    logprobs = logprob_rows((choice.get("logprobs") or {}).get("content"))
    reason = choice.get("finish_reason")
    return str((choice.get("delta") or {}).get("content") or ""), logprobs, reason if reason in {"stop", "length", None} else "stop"


def logprob_rows(said: Any) -> list[Json]:
    """Write a child's logprobs as Ollama's: what it says of token numbers is left out."""
    return [
        {"token": row["token"], "logprob": row["logprob"], "bytes": row.get("bytes") or []}
        | ({"top_logprobs": logprob_rows(row["top_logprobs"])} if "top_logprobs" in row else {})
        for row in said or []
    ]

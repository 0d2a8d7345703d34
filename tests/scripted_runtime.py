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
said of its answer. Runs in tests and as `python -m tests.scripted_runtime --port 0`; with `--contract` it begins without models and passes
`tests/contract/test_ollama_*.py`; `--model` adds one to those that it lists. `GET /scripted/running` tells how many answers it is giving.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from cluster.runtime import dialect
from cluster.runtime.dialect import BadRequest
from cluster.runtime.prompts import prompt_of, require_template
from tests import scripted_library
from tests.scripted_models import (
    FakeModel,
    cut_at,
    fake,
    formatted,
    pieces_after,
    rendered,
    said_before,
    vector_of,
    words_of,
)
from tests.scripted_state import MODELS, STATE, Script, body_of, find, in_ollamas_words, obtain, running

ANSWER_WORDS = 8  # of a model whose name says nothing
LONG_STORY = "very long story"  # such a model tells one word by word, and slowly
TEMPLATE_WORDS = 3  # what a chat's template adds to it
BUSY = "server busy, please try again.  maximum pending requests exceeded"
MAX_BODY_BYTES = 2**26
__all__ = ["MODELS", "STATE", "Script", "create_app", "rendered", "serve", "words_of"]


@dataclass(frozen=True)
class Behavior:
    """What a model's name says: the action, its number, and seconds per word."""

    action: str
    value: float = 0
    pace_s: float = 0


def behavior(model: str, prompt: str) -> Behavior:
    """Read a model's name; where that says nothing, the prompt."""
    if not model.startswith("fake:"):
        return Behavior("words", 1500, 0.01) if LONG_STORY in prompt else Behavior("words", ANSWER_WORDS)
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


# --- answers ----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A chat or a generation, checked: what the answer follows from, what was said of it, and how it is wanted."""

    prompt: str
    partial: str
    prompt_words: int
    options: dict
    format: object
    top_logprobs: int | None  # None: no logprobs at all
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
    messages = messages_of(model, seen(body) if "vision" in model.capabilities else body, is_chat=is_chat)
    does = behavior(script.always or model.name, messages[-1]["content"] if messages else "")
    if does.action == "500" or script.is_down:
        return web.json_response({"error": "scripted failure"}, status=500)
    if does.action == "404":
        raise BadRequest(f"model '{body['model']}' not found", 404)
    if does.action == "503":
        raise BadRequest(BUSY, 503)
    keep_alive_s = dialect.keep_alive_s(body.get("keep_alive"))
    asked = asked_of(model, body, messages)
    head = {"model": body["model"], "created_at": now_text()}
    if not (body.get("messages") if is_chat else body.get("prompt")):
        return web.json_response(head | await load_or_unload(script, model, asked.options, keep_alive_s, is_chat=is_chat))
    await obtain(script, model, asked.options, keep_alive_s)
    prompt = prompt_for(model, body, messages)
    if body.get("_debug_render_only"):
        return web.json_response(head | {"_debug_info": {"rendered_template": prompt}})
    async with script.turns or nullcontext():
        with running(script, model):
            return await speak(request, model, body, asked, does, is_chat=is_chat)


def seen(body: dict) -> dict:
    """The same without its images."""
    messages = [{name: value for name, value in one.items() if name != "images"} for one in body.get("messages") or []]
    return body | {"messages": messages}


def messages_of(model: FakeModel, body: dict, *, is_chat: bool) -> list[dict]:
    """The messages of a chat, or those that a generation means, after the model's own; none for a raw one."""
    if is_chat:
        sent = dialect.checked_messages(body.get("messages"))
    elif body.get("raw"):
        if body.get("system") or body.get("template") or body.get("context"):
            raise BadRequest("raw mode does not support template, system, or context")
        return []
    else:
        sent = [{"role": "user", "content": body["prompt"]}] if body.get("prompt") else []
    messages = [*model.messages, *sent] if sent else []
    system = body.get("system") or model.system
    return [{"role": "system", "content": system}, *messages] if system and messages and messages[0]["role"] != "system" else messages


def prompt_for(model: FakeModel, body: dict, messages: list[dict]) -> str:
    template = require_template(body.get("template") or "") or model.template
    return prompt_of(template, messages) if template else rendered(messages)


def asked_of(model: FakeModel, body: dict, messages: list[dict]) -> Asked:
    dialect.refuse_what_it_cannot(body, body["model"], list(model.capabilities))
    dialect.response_format(body.get("format"))
    top_logprobs = dialect.logprob_request(body).get("top_logprobs")
    options = {**model.options, **dialect.checked_options(body.get("options"))}
    context = int(options.get("num_ctx") or model.context_tokens)
    while (count := sum(len(one["content"].split()) for one in messages)) > context:
        if body.get("truncate") is False:
            raise BadRequest("the input length exceeds the context length")
        messages.pop(0)
    prompt, partial = (messages[-1]["content"], "") if messages else said_before(body.get("prompt") or "")
    words = count + TEMPLATE_WORDS if messages else len(prompt.split())
    return Asked(prompt, partial, words, options, body.get("format"), top_logprobs, body.get("stream") is not False)


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
        if asked.top_logprobs is None:
            return {}
        rows = [{"token": one, "logprob": -0.5, "bytes": list(one.encode())} for one in pieces]
        return {"logprobs": [row | {"top_logprobs": [row] * asked.top_logprobs} for row in rows]}

    def end(text: str) -> dict:
        spent = max(3, time.monotonic_ns() - began)
        return line(
            text, done=True, done_reason=reason, total_duration=spent, load_duration=1, prompt_eval_count=asked.prompt_words,
            prompt_eval_duration=1, eval_count=len(said), eval_duration=spent - 2,
        )  # fmt: skip

    told, said = told_otherwise(does, body, asked, said)
    if not asked.wants_stream:
        await asyncio.sleep(does.pace_s * len(said))
        return web.json_response(end("".join(said)) | logprobs(said))
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    for message in told:
        await response.write(json.dumps(line("") | {"message": message}).encode() + b"\n")
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


def told_otherwise(does: Behavior, body: dict, asked: Asked, said: list[str]) -> tuple[list[dict], list[str]]:
    """What is said before the words: thoughts, or the call of a tool, which takes their place; and the words then."""
    if does.action == "thinks" and body.get("think") is not False:
        return [{"role": "assistant", "content": "", "thinking": word} for word in words_of(asked.prompt + "?", 3)], said
    if does.action == "tools" and body.get("tools"):
        function = body["tools"][0]["function"]
        arguments = dict.fromkeys((function.get("parameters") or {}).get("properties") or {}, "x")
        return [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": function["name"], "arguments": arguments}}]}], []
    return [], said


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


async def embeddings(request: web.Request) -> web.Response:
    """`POST /api/embeddings`: not of length 1."""
    body = await body_of(request)
    find(request.app[STATE], body.get("model"))
    return web.json_response({"embedding": [3 * value for value in vector_of(body["prompt"])] if body.get("prompt") else []})


async def answers_now(request: web.Request) -> web.Response:
    """`GET /scripted/running`: for tests of machines that nobody else reaches."""
    return web.json_response(request.app[STATE].running)


def now_text() -> str:
    """The time as Ollama writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def create_app(script: Script | None = None) -> web.Application:
    """Build the application."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[in_ollamas_words])
    app[STATE] = script or Script()
    app.add_routes(scripted_library.ROUTES)
    app.router.add_get("/scripted/running", answers_now)
    for path, post in (("/api/chat", answer), ("/api/generate", answer), ("/api/embed", embed), ("/api/embeddings", embeddings)):
        app.router.add_post(path, post)
    return app


async def serve(script: Script, port: int = 0, host: str = "127.0.0.1") -> tuple[web.AppRunner, str]:
    """Serve; answers what stops it and its URL."""
    runner = web.AppRunner(create_app(script), handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def main(port: int, models: list[str], *, is_contract: bool, host: str) -> None:
    """Serve for ever; the first line tells where."""
    script = Script(is_contract=is_contract)
    script.models |= {name: fake(name) for name in models}
    _runner, url = await serve(script, port, host)
    sys.stdout.write(json.dumps({"pid": os.getpid(), "port": int(url.rpartition(":")[2])}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--contract", action="store_true")
    parser.add_argument("--model", action="append", default=[], dest="models")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.port, arguments.models, is_contract=arguments.contract, host=arguments.host))

"""A scripted runtime: a real HTTP server that speaks Ollama's API and does what the model's name says.

    fake:words=N   answers N words, one line each (their text follows from the prompt)      fake:drip=S   one word every S seconds
    fake:hang@N    stops for ever after N words        fake:cut@N    drops the connection after N words
    fake:500       answers 500                         fake:nodone   ends without `done`          fake:garbage  writes nonsense

Any reader can verify any answer: `words_of(prompt, n)` tells the text. Runs in tests and as `python -m tests.scripted_runtime --port 0`.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys

from aiohttp import web

MODELS = ("fake:words=3", "fake:words=16", "fake:words=200", "fake:drip=0.1", "fake:drip=5", "fake:hang@0", "fake:hang@2", "fake:cut@0", "fake:cut@2",
          "fake:500", "fake:nodone", "fake:garbage")  # fmt: skip
CONTEXT = 8192
STATE: web.AppKey["Script"] = web.AppKey("script")


def words_of(prompt: str, count: int) -> list[str]:
    """The words that any prompt is answered with."""
    seed = hashlib.sha256(prompt.encode()).hexdigest()
    return [f"{seed[n % 60 : n % 60 + 4]} " for n in range(count)]


def prompt_of(body: dict) -> str:
    """The text that the answer follows from."""
    messages = body.get("messages")
    return messages[-1]["content"] if messages else body.get("prompt", "")


class Script:
    """What the server was asked, and how many answers it is giving now."""

    def __init__(self) -> None:
        self.requests: list[dict] = []
        self.running = 0
        self.has_tokenizer = False
        self.slots: int | None = None
        self.is_down = False
        self.always: str | None = None  # behaves as this model, whatever is asked
        self.peers: set[object] = set()  # one per connection that answers came through


def behavior(model: str) -> tuple[str, float]:
    """Read a model's name."""
    action = model.partition(":")[2]
    for separator in ("=", "@"):
        if separator in action:
            name, _, value = action.partition(separator)
            return name, float(value)
    return action, 0


async def answer(request: web.Request) -> web.StreamResponse:
    """`POST /api/chat` and `/api/generate`."""
    script = request.app[STATE]
    body = json.loads(await request.read())
    script.peers.add(request.transport and request.transport.get_extra_info("peername"))
    script.requests.append(body) if len(script.requests) < 1000 else None
    action, value = behavior(script.always or body["model"])
    if action == "500" or script.is_down:
        return web.json_response({"error": "scripted failure"}, status=500)
    if not body.get("messages") and not body.get("prompt"):
        return web.json_response({"model": body["model"], "done": True, "done_reason": "load"})
    count = min(
        int(value) if action == "words" else 200 if action == "drip" else 6, int((body.get("options") or {}).get("num_predict", 10_000))
    )
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    script.running += 1
    try:
        return await speak(request, response, body, action, value, words_of(prompt_of(body), count))
    finally:
        script.running -= 1


async def speak(
    request: web.Request, response: web.StreamResponse, body: dict, action: str, value: float, words: list[str]
) -> web.StreamResponse:
    """Write the answer, as scripted."""
    is_chat = request.path.endswith("chat")

    def line(text: str, **more: object) -> bytes:
        piece = {"message": {"role": "assistant", "content": text}} if is_chat else {"response": text}
        return json.dumps({"model": body["model"], "created_at": "2026-01-01T00:00:00Z", **piece, "done": False, **more}).encode() + b"\n"

    for n, word in enumerate(words):
        if action in {"hang", "cut"} and n == int(value):
            if action == "hang":
                await asyncio.Event().wait()
            assert request.transport is not None
            request.transport.abort()
            return response
        if action == "drip":
            await asyncio.sleep(value)
        await response.write(b"\xff\xfenonsense{\n" if action == "garbage" else line(word))
    if action == "nodone":
        return response
    limit = (body.get("options") or {}).get("num_predict")
    reason = "length" if limit == len(words) else "stop"
    counters = {"done": True, "done_reason": reason, "prompt_eval_count": len(prompt_of(body).split()) + 3, "eval_count": len(words)}
    await response.write(line("", **counters))
    return response


async def version(request: web.Request) -> web.Response:
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
    rows = [
        {"name": name, "model": name, "size": 1000, "digest": hashlib.sha256(name.encode()).hexdigest(), "details": {}} for name in MODELS
    ]
    return web.json_response({"models": rows})


async def ps(request: web.Request) -> web.Response:
    return web.json_response({"models": [{"name": name, "context_length": CONTEXT} for name in MODELS]})


async def show(request: web.Request) -> web.Response:
    body = json.loads(await request.read())
    sha = hashlib.sha256(body["model"].encode()).hexdigest()
    info = {"general.architecture": "fake", "fake.context_length": CONTEXT}
    return web.json_response({"modelfile": f"FROM /models/sha256-{sha}\n", "model_info": info, "capabilities": ["completion"]})


async def tokenize(request: web.Request) -> web.Response:
    """Our own extra route: one token per word."""
    body = json.loads(await request.read())
    text = body.get("content") or " ".join(message["content"] for message in body.get("messages") or [])
    return web.json_response({"tokens": len(text.split())})


def create_app(script: Script | None = None) -> web.Application:
    app = web.Application(client_max_size=2**26)
    app[STATE] = script or Script()
    app.router.add_get("/api/version", version)
    app.router.add_get("/api/tags", tags)
    app.router.add_get("/api/ps", ps)
    app.router.add_post("/api/show", show)
    app.router.add_post("/api/chat", answer)
    app.router.add_post("/api/generate", answer)
    app.router.add_post("/gfe/tokenize", tokenize)
    return app


async def serve(script: Script, port: int = 0) -> tuple[web.AppRunner, str]:
    """Serve; answers what stops it and its URL."""
    runner = web.AppRunner(create_app(script), handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def main(port: int) -> None:
    _runner, url = await serve(Script(), port)
    sys.stdout.write(json.dumps({"pid": os.getpid(), "port": int(url.rpartition(":")[2])}) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(main(parser.parse_args().port))

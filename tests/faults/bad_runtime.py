"""A scripted runtime that fails in more ways: what it answers to chats is decided per node by `script.always`, whatever model is asked.

bad:404        the model is gone, from the list too       bad:503       busy, always            bad:half   a line that stops in the middle
bad:utf8       bytes that are no text, in a JSON line     bad:line=N    a line of N million bytes
"""

import hashlib
import json

from aiohttp import web

from tests import scripted_runtime
from tests.scripted_runtime import STATE, Script

PIECE = b"x" * 65536
CHATS = ("/api/chat", "/api/generate")


class BadScript(Script):
    """Counts answers at once and in all, too."""

    def __init__(self):
        super().__init__()
        self.most_running = 0
        self.answers = 0
        self.refusals = 0


@web.middleware
async def misbehaving(request, handler):
    script = request.app[STATE]
    always = script.always or ""
    if request.path == "/api/tags" and always == "bad:404":
        return web.json_response({"models": [row("fake:words=3")]})
    if request.path not in CHATS:
        return await handler(request)
    script.answers += 1
    if not always.startswith("bad:"):
        script.most_running = max(script.most_running, script.running + 1)
        return await handler(request)
    if always in {"bad:404", "bad:503"}:
        script.refusals += 1
        return web.json_response({"error": "scripted refusal"}, status=int(always[4:]))
    return await babble(request, always)


async def babble(request, always):
    """Begin an answer well, then write what is none."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    body = json.loads(await request.read())
    good = json.dumps({"model": body["model"], "message": {"role": "assistant", "content": "well "}, "done": False}).encode()
    if always == "bad:half":
        await response.write(good[: len(good) // 2])
    elif always == "bad:utf8":
        await response.write(good.replace(b"well", b"\xff\xfe\xc3\x28") + b"\n")
    else:
        await response.write(good[:-20])
        for _ in range(int(always.partition("=")[2]) * 1_000_000 // len(PIECE)):
            await response.write(PIECE)
    return response


def row(name):
    return {"name": name, "model": name, "size": 1000, "digest": hashlib.sha256(name.encode()).hexdigest(), "details": {}}


async def serve(script, port=0):
    """Serve in this process; answers what stops it and its URL."""
    app = scripted_runtime.create_app(script)
    app.middlewares.append(misbehaving)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"

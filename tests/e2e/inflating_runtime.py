"""A runtime that claims ten times the tokens that it wrote: it passes everything on to an honest one, and looks like a plain Ollama."""

import asyncio
import json
import os
import sys

import aiohttp
from aiohttp import web

INFLATES = 10
OURS = "gfe_"  # begins what only the embedded runtime tells of itself


def plain(said):
    """What a plain Ollama would tell of its version."""
    return {name: value for name, value in said.items() if not name.startswith(OURS)}


def inflated(line):
    """A line of an answer; in the last one the count is inflated."""
    said = json.loads(line)
    if said.get("done") and "eval_count" in said:
        said["eval_count"] *= INFLATES
    return json.dumps(said).encode() + b"\n"


def passing_on(honest, session):
    """Make the handler of all routes."""

    async def pass_on(request):
        async with session.request(request.method, honest + request.path, data=await request.read()) as answer:
            if request.path == "/api/version":
                return web.json_response(plain(await answer.json()))
            if request.path not in {"/api/chat", "/api/generate"} or answer.status != 200:
                return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)
            response = web.StreamResponse(headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            async for line in answer.content:
                await response.write(inflated(line))
            return response

    return pass_on


async def main(honest):
    """Serve for ever; the first line tells where."""
    async with aiohttp.ClientSession() as session:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", passing_on(honest, session))
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        sys.stdout.write(json.dumps({"pid": os.getpid(), "port": runner.addresses[0][1]}) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

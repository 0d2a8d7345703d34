"""The bare path that the gateway is compared with: HAProxy, one Serve replica, one worker, the stub; no key, no hold, no record.

It does what nobody can avoid on this architecture: HTTP in, HTTP to the worker, HTTP to the runtime, and the answer back, coalesced for
50 ms as in the product. Deployed by `bench/gateway.py` into the same cluster as the product, under `/bare`.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import ray
from aiohttp import web
from fastapi import FastAPI
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

COALESCE_S = 0.05


@ray.remote(num_cpus=0, max_concurrency=100)
class BareWorker:
    """Relays a chat to the runtime and its lines back, coalesced."""

    async def start(self, runtime_url: str) -> str:
        """Serve on a free port and tell its address."""
        self.runtime_url = runtime_url
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False)
        app = web.Application()
        app.router.add_post("/run", self.run)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def pid(self) -> int:
        """Tell the process id."""
        return os.getpid()

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Relay one chat."""
        body = await request.read()
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        held: list[bytes] = []
        flushed_at = 0.0
        async with self.session.post(self.runtime_url + "/api/chat", data=body) as answer:
            async for line in answer.content:
                held.append(line)
                if time.monotonic() - flushed_at > COALESCE_S:
                    await response.write(b"".join(held))
                    held.clear()
                    flushed_at = time.monotonic()
        if held:
            await response.write(b"".join(held))
        await response.write_eof()
        return response


def create_bare_app() -> FastAPI:
    """Build the application of the replica."""
    state: dict[str, Any] = {}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker = ray.get_actor("bare_worker", namespace="bench")
        state["url"] = await worker.start.remote(os.environ["GFE_BENCH_STUB"])
        state["session"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False)
        yield
        await state["session"].close()

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    async def lines(body: bytes) -> AsyncIterator[dict[str, Any]]:
        async with state["session"].post(state["url"] + "/run", data=body) as answer:
            async for line in answer.content:
                yield json.loads(line)

    async def chat(request: Request) -> Response:
        asked = json.loads(await request.body())
        body = json.dumps({"model": asked["model"], "messages": asked["messages"], "stream": True}).encode()
        if asked.get("stream"):

            async def events() -> AsyncIterator[bytes]:
                async for line in lines(body):
                    yield b"data: " + json.dumps({"choices": [{"index": 0, "delta": line["message"]}]}).encode() + b"\n\n"
                yield b"data: [DONE]\n\n"

            return StreamingResponse(events(), media_type="text/event-stream")
        text = "".join([line["message"]["content"] async for line in lines(body)])
        return JSONResponse({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]})

    app.add_route("/chat", chat, methods=["POST"])
    return app


@serve.deployment(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0, "resources": {"control": 0.001}})
@serve.ingress(create_bare_app)
class Bare:
    """The replica of the bare path."""


async def start_bare_path(stub_url: str) -> int:
    """Deploy worker and replica; tell the worker's process id."""
    worker = BareWorker.options(name="bare_worker", namespace="bench", lifetime="detached", resources={"control": 0.001}).remote()
    pid = await worker.pid.remote()
    options = {"num_cpus": 0, "resources": {"control": 0.001}, "runtime_env": {"env_vars": {"GFE_BENCH_STUB": stub_url}}}
    application = Bare.options(ray_actor_options=options).bind()
    await asyncio.to_thread(serve.run, application, name="bare", route_prefix="/bare")
    return int(pid)

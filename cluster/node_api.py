"""Serves the node protocol (design section 4): plain HTTP/1.1 and NDJSON, a service token on every call."""

import asyncio
import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from cluster.errors import AttemptSuperseded, NodeBusy
from cluster.node_wire import attempt_of, node_json
from cluster.service_tokens import InvalidToken, TokenVerifier
from cluster.worker import Running, Worker

BEAT_S = 2.0
MAX_BODY_BYTES = 8 * 1024 * 1024
NDJSON = {"Content-Type": "application/x-ndjson"}
WORKER: web.AppKey[Worker] = web.AppKey("worker")
VERIFIER: web.AppKey[TokenVerifier] = web.AppKey("verifier")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def authenticated(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let only our own services in."""
    try:
        request.app[VERIFIER].verify(request.headers.get("Authorization", "").removeprefix("Bearer "))
    except InvalidToken:
        return web.json_response(
            {"error": "a service token for the audience `node` is needed"}, status=401, headers={"WWW-Authenticate": "Bearer"}
        )
    try:
        return await handler(request)
    except AttemptSuperseded:
        return web.json_response({"error": "superseded"}, status=410)
    except ValueError as wrong:
        return web.json_response({"error": str(wrong)}, status=400)


async def start_attempt(request: web.Request) -> web.StreamResponse:
    """`POST /v1/attempts`: start, or attach to the same attempt; answers its log, or 409 when it did not start."""
    worker = request.app[WORKER]
    attempt = attempt_of(json.loads(await request.read()))
    try:
        running = worker.admit(attempt)
    except NodeBusy as busy:
        return web.json_response({"event": "busy", "free": busy.free, "reason": busy.reason}, status=409)
    return await send_log(request, worker, running, 0)


async def attach(request: web.Request) -> web.StreamResponse:
    """`GET /v1/attempts/{job}/{attempt}?from=seq`."""
    worker = request.app[WORKER]
    running = worker.find(request.match_info["job"], int(request.match_info["attempt"]))
    if running is None:
        return web.json_response({"error": "unknown attempt"}, status=404)
    return await send_log(request, worker, running, int(request.query.get("from", "0")))


async def send_log(request: web.Request, worker: Worker, running: Running, from_seq: int) -> web.StreamResponse:
    """Send a log from a position to its end."""
    response = web.StreamResponse(headers=NDJSON)
    await response.prepare(request)
    async for lines in worker.read(running, from_seq):
        await response.write(lines)
    return response


async def cancel(request: web.Request) -> web.Response:
    """`DELETE /v1/attempts/{job}/{attempt}`; idempotent."""
    request.app[WORKER].cancel(request.match_info["job"], int(request.match_info["attempt"]))
    return web.Response(status=204)


async def watch(request: web.Request) -> web.StreamResponse:
    """`GET /v1/nodes`: all nodes once, then a line per change, and a beat every two seconds; never ends."""
    worker = request.app[WORKER]
    response = web.StreamResponse(headers=NDJSON)
    await response.prepare(request)
    sent = None
    while True:
        changed = worker.changed
        line = b'{"beat":true}\n' if worker.node == sent else json.dumps({"node": node_json(worker.node)}).encode() + b"\n"
        sent = worker.node
        await response.write(line)
        try:
            await asyncio.wait_for(changed.wait(), BEAT_S)
        except TimeoutError:
            continue


async def drain(request: web.Request) -> web.Response:
    """`POST /v1/nodes/{node}/drain`."""
    worker = request.app[WORKER]
    if request.match_info["node"] != worker.node.id:
        return web.json_response({"error": "unknown node"}, status=404)
    worker.drain()
    return web.Response(status=204)


def create_node_app(worker: Worker, verifier: TokenVerifier) -> web.Application:
    """Build the application."""
    app = web.Application(middlewares=[authenticated], client_max_size=MAX_BODY_BYTES)
    app[WORKER], app[VERIFIER] = worker, verifier
    app.router.add_post("/v1/attempts", start_attempt)
    app.router.add_get("/v1/attempts/{job}/{attempt:[0-9]+}", attach)
    app.router.add_delete("/v1/attempts/{job}/{attempt:[0-9]+}", cancel)
    app.router.add_get("/v1/nodes", watch)
    app.router.add_post("/v1/nodes/{node}/drain", drain)
    return app


async def serve_node(worker: Worker, verifier: TokenVerifier, host: str, port: int) -> tuple[web.AppRunner, str]:
    """Serve a worker; answers what stops it and its URL."""
    runner = web.AppRunner(create_node_app(worker, verifier), handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner, f"http://{host}:{runner.addresses[0][1]}"

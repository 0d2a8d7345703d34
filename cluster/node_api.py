"""Serves the node protocol (design section 4): plain HTTP/1.1 and NDJSON, a service token on every call."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Any, Protocol

from aiohttp import web

from cluster.errors import (
    AttemptSuperseded,
    ClusterError,
    ClusterUnreachable,
    NodeBusy,
    NodeLost,
    OperationRefused,
    RuntimeFailed,
    RuntimeRefused,
)
from cluster.jobs import Attempt
from cluster.model_operations import Action, Operation
from cluster.node_wire import BEAT_LINE, attempt_of, counts_line, node_line
from cluster.nodes import Node
from cluster.operation_wire import SUCCESS_LINE, asked_operation, progress_line, refusal_line
from cluster.service_tokens import InvalidToken, TokenVerifier

BEAT_S = 2.0
GATHER_S = 0.02  # what changes meanwhile goes into one line; the first change after a quiet time goes at once
MAX_BODY_BYTES = 16 * 1024 * 1024  # the largest request, and what was delivered of its answer
STOP_LIMIT_S = 1.0
NDJSON = {"Content-Type": "application/x-ndjson"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Readable(Protocol):
    """The log of an attempt, as readers see it."""

    def reader(self) -> AbstractContextManager[None]:
        """Count as a reader as long as one reads."""

    async def lines_from(self, seq: int) -> tuple[bytes, int, bool]:
        """Wait for lines at a position; answer them, the next position, and whether these are the last ones. An empty line: no news."""


class Host(Protocol):
    """What is served: the worker of one node, or an edge gateway to many."""

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next change; ask for it before looking at `nodes`."""

    def nodes(self) -> Sequence[Node]:
        """List the nodes now."""

    def note_watched(self) -> None:
        """Somebody watches."""

    async def begin(self, attempt: Attempt) -> Readable:
        """Take an attempt, or answer the one that runs already."""

    async def attach(self, job: str, number: int, node: str, asked: Attempt | None = None) -> Readable | None:
        """Look an attempt up; nothing is begun. `asked`: what it is, by a driver of it; None: it is not known."""

    def cancel(self, job: str, number: int) -> None:
        """Cancel an attempt; an unknown or ended one is fine."""

    def operate(self, node: str, action: Action, model: str, *, is_forced: bool) -> Operation | None:
        """Begin to load, unload or pull a model; None: the node is not here."""

    async def describe(self, node: str, model: str) -> Mapping[str, Any] | None:
        """Tell what a model is, as Ollama's `show` does; None: not here."""

    async def count(self, node: str, model: str, messages: Sequence[Mapping[str, Any]]) -> int | None:
        """Count the tokens of a chat with the model's own tokenizer; None: nobody here can."""

    def drain(self, node: str) -> bool:
        """Take no new attempts on a node; False: it is not here."""

    def resume(self, node: str) -> bool:
        """Take attempts on a node again; False: it is not here."""


HOST: web.AppKey[Host] = web.AppKey("host")
VERIFIER: web.AppKey[TokenVerifier] = web.AppKey("verifier")
OPEN: web.AppKey[frozenset[str]] = web.AppKey("open")  # paths that need no token


@web.middleware
async def authenticated(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let only our own services in; tell refusals in the protocol's words."""
    if request.path in request.app[OPEN]:
        return await handler(request)
    try:
        request.app[VERIFIER].verify(request.headers.get("Authorization", "").removeprefix("Bearer "))
    except InvalidToken:
        said = {"error": "a service token for the audience `node` is needed"}
        return web.json_response(said, status=401, headers={"WWW-Authenticate": "Bearer"})
    try:
        return await handler(request)
    except AttemptSuperseded:
        return web.json_response({"error": "superseded"}, status=410)
    except NodeBusy as busy:
        return web.json_response({"event": "busy", "free": busy.free, "reason": busy.reason}, status=409)
    except ClusterUnreachable:
        return web.json_response({"error": "not known yet"}, status=503)
    except NodeLost as lost:
        return web.json_response({"error": lost.detail}, status=504)
    except (RuntimeFailed, RuntimeRefused) as failed:
        return web.json_response({"error": failed.detail}, status=502)
    except OperationRefused as refused:
        return web.json_response({"error": refused.detail, "hint": refused.hint}, status=409)
    except (ValueError, KeyError, TypeError) as wrong:
        return web.json_response({"error": str(wrong)}, status=400)
    except web.HTTPException as answered:
        return web.json_response({"error": answered.reason}, status=answered.status)


async def start_attempt(request: web.Request) -> web.StreamResponse:
    """`POST /v1/attempts`: start, or attach to the same attempt; answers its log after what was delivered, or 409 when it did not start.

    With `from` in the body its driver attaches to it at this position, and nothing is started: 404 where it is not known.
    """
    said = json.loads(await request.read())
    attempt, host = attempt_of(said), request.app[HOST]
    if "from" not in said:
        return await send_log(request, await host.begin(attempt), len(attempt.delivered))
    return await _send_known(request, await host.attach(attempt.job, attempt.number, attempt.node, attempt), int(said["from"]))


async def attach(request: web.Request) -> web.StreamResponse:
    """`GET /v1/attempts/{job}/{attempt}?from=seq&node=`."""
    running = await request.app[HOST].attach(*_attempt(request), request.query.get("node", ""))
    return await _send_known(request, running, int(request.query.get("from", "0")))


async def _send_known(request: web.Request, running: Readable | None, from_seq: int) -> web.StreamResponse:
    if from_seq < 0:
        raise ValueError("`from` counts from 0")
    if running is None:
        return web.json_response({"error": "unknown attempt"}, status=404)
    return await send_log(request, running, from_seq)


async def send_log(request: web.Request, running: Readable, seq: int) -> web.StreamResponse:
    """Send a log from a position to its end."""
    response = web.StreamResponse(headers=NDJSON)
    with running.reader():
        await response.prepare(request)
        while True:
            lines, seq, is_last = await running.lines_from(seq)
            if is_last:
                await response.write_eof(lines)
                return response
            await response.write(lines)


async def cancel(request: web.Request) -> web.Response:
    """`DELETE /v1/attempts/{job}/{attempt}`; idempotent."""
    request.app[HOST].cancel(*_attempt(request))
    return web.Response(status=204)


async def watch(request: web.Request) -> web.StreamResponse:
    """`GET /v1/nodes`: all nodes once, then a line per node that changed, and a beat every two seconds; never ends."""
    host = request.app[HOST]
    response = web.StreamResponse(headers=NDJSON)
    await response.prepare(request)
    host.note_watched()
    sent: dict[str, Node] = {}
    while True:
        changed = host.changed
        lines = b"".join(_news(host.nodes(), sent))
        await response.write(lines or BEAT_LINE)
        if lines:
            await asyncio.sleep(GATHER_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(BEAT_S):
                await changed.wait()


def _news(nodes: Sequence[Node], sent: dict[str, Node]) -> list[bytes]:
    """Write what a watcher does not know yet; a node of which only the counts changed goes as a short line."""
    lines = []
    for node in nodes:
        known = sent.get(node.id)
        if known is node or known == node:
            continue
        is_count = known is not None and replace(known, running=node.running, admitted=node.admitted) == node
        lines.append(counts_line(node) if is_count else node_line(node))
        sent[node.id] = node
    return lines


async def drain(request: web.Request) -> web.Response:
    """`POST /v1/nodes/{node}/drain`."""
    if not request.app[HOST].drain(request.match_info["node"]):
        return web.json_response({"error": "unknown node"}, status=404)
    return web.Response(status=204)


async def resume(request: web.Request) -> web.Response:
    """`DELETE /v1/nodes/{node}/drain`."""
    if not request.app[HOST].resume(request.match_info["node"]):
        return web.json_response({"error": "unknown node"}, status=404)
    return web.Response(status=204)


async def operate(request: web.Request) -> web.StreamResponse:
    """`POST /v1/nodes/{node}/models`: load, unload or pull a model; a line per step, the last one says `success` or what is wrong."""
    action, model, is_forced = asked_operation(json.loads(await request.read()))
    operation = request.app[HOST].operate(request.match_info["node"], action, model, is_forced=is_forced)
    if operation is None:
        return web.json_response({"error": "unknown node"}, status=404)
    response = web.StreamResponse(headers=NDJSON)
    await response.prepare(request)
    try:
        async for progress in operation.follow(BEAT_S):
            await response.write(progress_line(progress))
    except ClusterError as failed:
        await response.write(refusal_line(failed))
        return response
    await response.write(SUCCESS_LINE)
    return response


async def describe(request: web.Request) -> web.Response:
    """`POST /v1/nodes/{node}/describe`: what a model is."""
    said = await request.app[HOST].describe(request.match_info["node"], str(json.loads(await request.read())["model"]))
    return web.json_response(said) if said is not None else web.json_response({"error": "unknown node or model"}, status=404)


async def count(request: web.Request) -> web.Response:
    """`POST /v1/nodes/{node}/count`: the tokens of a chat; null where nobody there can count."""
    asked = json.loads(await request.read())
    return web.json_response({"tokens": await request.app[HOST].count(request.match_info["node"], str(asked["model"]), asked["messages"])})


def _attempt(request: web.Request) -> tuple[str, int]:
    return request.match_info["job"], int(request.match_info["attempt"])


def create_node_app(host: Host, verifier: TokenVerifier, beside: Mapping[str, Handler] | None = None) -> web.Application:
    """Build the application; `beside` are paths that anybody who reaches this address may get."""
    app = web.Application(middlewares=[authenticated], client_max_size=MAX_BODY_BYTES)
    app[HOST], app[VERIFIER], app[OPEN] = host, verifier, frozenset(beside or ())
    for path, handler in (beside or {}).items():
        app.router.add_get(path, handler)
    app.router.add_post("/v1/attempts", start_attempt)
    app.router.add_get("/v1/attempts/{job}/{attempt:[0-9]{1,9}}", attach)
    app.router.add_delete("/v1/attempts/{job}/{attempt:[0-9]{1,9}}", cancel)
    app.router.add_get("/v1/nodes", watch)
    app.router.add_post("/v1/nodes/{node}/drain", drain)
    app.router.add_delete("/v1/nodes/{node}/drain", resume)
    app.router.add_post("/v1/nodes/{node}/models", operate)
    app.router.add_post("/v1/nodes/{node}/describe", describe)
    app.router.add_post("/v1/nodes/{node}/count", count)
    return app


async def serve_node(
    host: Host, verifier: TokenVerifier, address: str, port: int, beside: Mapping[str, Handler] | None = None
) -> tuple[web.AppRunner, str]:
    """Serve nodes; answers what stops it and its URL."""
    app = create_node_app(host, verifier, beside)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=STOP_LIMIT_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner, f"http://{address}:{runner.addresses[0][1]}"

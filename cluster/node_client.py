"""Calls the node protocol: run an attempt, attach to one, cancel it, drain a node, watch nodes."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError  # lines that are too long

from cluster.attempt_log import MAX_LINE_BYTES, decode
from cluster.errors import AttemptSuperseded, AttemptUnknown, NodeBusy, NodeLost
from cluster.jobs import Attempt, End, Event, Fail
from cluster.keep_alive import read_to_end
from cluster.limits import LIMITS, Limits
from cluster.node_wire import attempt_json, news_of
from cluster.nodes import Node
from cluster.operation_wire import SUCCESS, refusal_of

KEEP_ALIVE_S = 60.0
READ_BYTES = 2**18


class Nodes(Protocol):
    """What a driver needs of nodes."""

    def run(self, url: str, attempt: Attempt) -> AsyncGenerator[Event, None]:
        """Start an attempt and yield its events."""

    def attach(self, url: str, job: str, number: int, from_seq: int, *, node: str) -> AsyncIterator[Event]:
        """Yield a running attempt's events from a position."""

    def rejoin(self, url: str, attempt: Attempt, from_seq: int) -> AsyncGenerator[Event, None]:
        """Attach as its driver to an attempt that was begun before."""

    async def cancel(self, url: str, job: str, number: int) -> None:
        """Stop an attempt."""

    async def drain(self, url: str, node: str) -> None:
        """Tell a node to take no new attempts."""

    async def resume(self, url: str, node: str) -> None:
        """Tell a node to take attempts again."""

    def operate(self, url: str, node: str, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Let a node load, unload or pull a model, and yield its steps."""


class ModelFacts(Protocol):
    """What nodes know of their models."""

    async def describe(self, url: str, node: str, model: str) -> dict[str, Any]:
        """Tell what a model is."""

    async def count(self, url: str, node: str, model: str, messages: Sequence[Mapping[str, Any]]) -> int | None:
        """Count the tokens of a chat."""


class NodeClient:
    """One session to all nodes. `token` makes a service token for the audience `node`."""

    def __init__(self, token: Callable[[], str], limits: Limits = LIMITS) -> None:
        self._token = token
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session (inside the running loop)."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S), timeout=self._timeout(self._limits.silence_s),
            trust_env=False, read_bufsize=READ_BYTES, cookie_jar=aiohttp.DummyCookieJar(),
        )  # fmt: skip

    async def aclose(self) -> None:
        """Close the session."""
        if self._session:
            await self._session.close()

    def _timeout(self, silence_s: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_s, sock_read=silence_s)

    def _request(self, method: str, url: str, **options: Any) -> Any:
        assert self._session is not None
        return self._session.request(method, url, headers={"Authorization": f"Bearer {self._token()}"}, **options)

    async def run(self, url: str, attempt: Attempt) -> AsyncGenerator[Event, None]:
        """Start an attempt on its node and yield its events, from the first that was not delivered before, to its end.

        Raises:
            NodeBusy: The node refused; nothing was started.
            AttemptSuperseded: The node knows a newer attempt.
            NodeLost: The connection broke or stayed silent; the outcome is unknown.
        """
        body = json.dumps(attempt_json(attempt), separators=(",", ":")).encode()
        async for event in self._events("POST", url + "/v1/attempts", attempt.job, attempt.number, attempt.node, body):
            yield event

    async def attach(self, url: str, job: str, number: int, from_seq: int, *, node: str) -> AsyncGenerator[Event, None]:
        """Yield the events of a running attempt from a position to its end.

        Raises:
            AttemptSuperseded: The node knows a newer attempt.
            AttemptUnknown: The node does not know it.
            NodeLost: The connection broke.
        """
        async for event in self._events("GET", f"{url}/v1/attempts/{job}/{number}?from={from_seq}&node={node}", job, number, node, None):
            yield event

    async def rejoin(self, url: str, attempt: Attempt, from_seq: int) -> AsyncGenerator[Event, None]:
        """Attach as its driver to an attempt that was begun before, and say what was asked: whoever serves it may have been restarted since.

        Raises:
            AttemptSuperseded: The node knows a newer attempt.
            AttemptUnknown: The node does not know it.
            NodeLost: The connection broke, or nobody can say yet.
        """
        body = json.dumps(attempt_json(attempt) | {"from": from_seq}, separators=(",", ":")).encode()
        async for event in self._events("POST", url + "/v1/attempts", attempt.job, attempt.number, attempt.node, body):
            yield event

    async def _events(self, method: str, url: str, job: str, number: int, node: str, body: bytes | None) -> AsyncGenerator[Event, None]:
        try:
            async with asyncio.timeout(self._limits.admit_s):
                answer = await self._request(method, url, data=body)
            async with answer:
                if answer.status != 200:
                    raise _refusal(answer.status, await answer.json(content_type=None), job, number, node)
                rest = b""
                async for data in answer.content.iter_any():
                    *lines, rest = (rest + data).split(b"\n")
                    for line in filter(None, lines):  # an empty one: there is no news
                        event = decode(line)
                        if isinstance(event, End | Fail):
                            await read_to_end(answer)
                            yield event
                            return
                        yield event
                    if len(rest) > MAX_LINE_BYTES:
                        raise NodeLost(node, "it sent a line that is too long")
        except (aiohttp.ClientError, OSError, ValueError) as broken:  # TimeoutError is an OSError
            raise NodeLost(node, f"its answer broke off ({type(broken).__name__})") from broken
        raise NodeLost(node, "its answer ended without an end")

    async def cancel(self, url: str, job: str, number: int) -> None:
        """Stop an attempt; best effort: a node that cannot be reached stops it by itself when nobody reads."""
        timeout = aiohttp.ClientTimeout(total=self._limits.connect_s)
        try:
            async with self._request("DELETE", f"{url}/v1/attempts/{job}/{number}", timeout=timeout):
                return
        except (aiohttp.ClientError, OSError):
            return

    async def drain(self, url: str, node: str) -> None:
        """Tell a node to take no new attempts.

        Raises:
            NodeLost: It did not hear it.
        """
        await self._tell("POST", url, node)

    async def resume(self, url: str, node: str) -> None:
        """Tell a node to take attempts again.

        Raises:
            NodeLost: It did not hear it.
        """
        await self._tell("DELETE", url, node)

    async def _tell(self, method: str, url: str, node: str) -> None:
        timeout = aiohttp.ClientTimeout(total=self._limits.admit_s)
        try:
            async with self._request(method, f"{url}/v1/nodes/{node}/drain", timeout=timeout) as answer:
                answer.raise_for_status()
        except (aiohttp.ClientError, OSError) as broken:
            raise NodeLost(node, type(broken).__name__) from broken

    async def operate(self, url: str, node: str, asked: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Let a node load, unload or pull a model (`cluster/operation_wire.py`); yield its steps, the last one says `success`.

        Raises:
            OperationRefused: It cannot be done; says what to do instead.
            NodeLost: The connection broke or stayed silent; whether it was done is unknown.
        """
        try:
            async with self._request("POST", f"{url}/v1/nodes/{node}/models", json=asked) as answer:
                if answer.status != 200:
                    raise refusal_of(await answer.json(content_type=None))
                async for line in answer.content:
                    said = json.loads(line)
                    if "error" in said:
                        raise refusal_of(said)
                    yield said
                    if said.get("status") == SUCCESS:
                        return
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as broken:
            raise NodeLost(node, f"its answer broke off ({type(broken).__name__})") from broken
        raise NodeLost(node, "its answer ended without an end")

    async def describe(self, url: str, node: str, model: str) -> dict[str, Any]:
        """Tell what a model of a node is, as Ollama's `show` does.

        Raises:
            NodeLost: The node does not say.
        """
        said: dict[str, Any] = await self._ask(url, node, "describe", {"model": model})
        return said

    async def count(self, url: str, node: str, model: str, messages: Sequence[Mapping[str, Any]]) -> int | None:
        """Count the tokens of a chat with the model's own tokenizer; None where the node cannot.

        Raises:
            NodeLost: The node does not say.
        """
        tokens = (await self._ask(url, node, "count", {"model": model, "messages": messages})).get("tokens")
        return tokens if isinstance(tokens, int) else None

    async def _ask(self, url: str, node: str, what: str, asked: Mapping[str, Any]) -> Any:
        timeout = aiohttp.ClientTimeout(total=self._limits.admit_s)
        try:
            async with self._request("POST", f"{url}/v1/nodes/{node}/{what}", json=asked, timeout=timeout) as answer:
                answer.raise_for_status()
                said = await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError, ValueError) as broken:
            raise NodeLost(node, type(broken).__name__) from broken
        if not isinstance(said, dict):
            raise NodeLost(node, "its answer is nonsense")
        return said

    async def watch(self, url: str) -> AsyncGenerator[Node | None, None]:
        """Yield a node whenever it changed, None at each beat. Ends when the connection does.

        Raises:
            NodeLost: It broke, or stayed silent for too long.
        """
        known: dict[str, Node] = {}
        try:
            async with self._request("GET", url + "/v1/nodes", timeout=self._timeout(self._limits.suspect_s)) as answer:
                answer.raise_for_status()
                async for line in answer.content:
                    yield next(news_of(line, known), None)
        except TimeoutError as silent:
            raise NodeLost(url, f"silent for {self._limits.suspect_s:g} s") from silent
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as broken:
            raise NodeLost(url, type(broken).__name__) from broken


def _refusal(status: int, said: Any, job: str, number: int, node: str) -> Exception:
    if status == 409 and isinstance(said, dict):
        return NodeBusy(node, str(said.get("reason", "busy")), int(said.get("free", 0)))
    if status == 410:
        return AttemptSuperseded(job, number)
    if status == 404:
        return AttemptUnknown(node, "it does not know the attempt")
    return NodeLost(node, f"it answered {status}")

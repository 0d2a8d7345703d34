"""Calls the node protocol: run an attempt, attach to one, cancel it, watch nodes."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import aiohttp

from cluster.attempt_log import decode
from cluster.errors import AttemptSuperseded, NodeBusy, NodeLost
from cluster.jobs import Attempt, Event
from cluster.limits import LIMITS, Limits
from cluster.node_wire import attempt_json, node_of
from cluster.nodes import Node

SILENCE_S = 15.0  # a running attempt says something at least every 5 s
MAX_LINE_BYTES = 8 * 1024 * 1024


class Nodes(Protocol):
    """What a driver needs of nodes."""

    def run(self, url: str, attempt: Attempt) -> AsyncIterator[Event]:
        """Start an attempt and yield its events."""

    def attach(self, url: str, job: str, number: int, from_seq: int, *, node: str) -> AsyncIterator[Event]:
        """Yield a running attempt's events from a position."""

    async def cancel(self, url: str, job: str, number: int) -> None:
        """Stop an attempt."""


class NodeClient:
    """One session to all nodes. `token` makes a service token for the audience `node`."""

    def __init__(self, token: Callable[[], str], limits: Limits = LIMITS) -> None:
        self._token = token
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session (inside the running loop)."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_s, sock_read=SILENCE_S)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60), timeout=timeout, trust_env=False, read_bufsize=2**18,
            max_line_size=MAX_LINE_BYTES,
        )  # fmt: skip

    async def aclose(self) -> None:
        """Close the session."""
        if self._session:
            await self._session.close()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token()}"}

    async def run(self, url: str, attempt: Attempt) -> AsyncIterator[Event]:
        """Start an attempt on its node and yield its events from the first on.

        Raises:
            NodeBusy: The node refused; nothing was started.
            AttemptSuperseded: The node knows a newer attempt.
            NodeLost: The connection broke or stayed silent; the outcome is unknown.
        """
        body = json.dumps(attempt_json(attempt), separators=(",", ":")).encode()
        async for event in self._events("POST", url + "/v1/attempts", attempt.job, attempt.number, attempt.node, body):
            yield event

    async def attach(self, url: str, job: str, number: int, from_seq: int, *, node: str) -> AsyncIterator[Event]:
        """Yield the events of a running attempt from a position on.

        Raises:
            AttemptSuperseded: The node knows a newer attempt.
            NodeLost: The node does not know it, or the connection broke.
        """
        async for event in self._events("GET", f"{url}/v1/attempts/{job}/{number}?from={from_seq}", job, number, node, None):
            yield event

    async def _events(self, method: str, url: str, job: str, number: int, node: str, body: bytes | None) -> AsyncIterator[Event]:
        assert self._session is not None
        try:
            async with self._session.request(method, url, data=body, headers=self._headers()) as answer:
                if answer.status != 200:
                    raise _refusal(answer.status, await answer.json(content_type=None), job, number, node)
                async for line in answer.content:
                    yield decode(line)
        except (aiohttp.ClientError, OSError, ValueError) as broken:  # TimeoutError is an OSError
            raise NodeLost(node, type(broken).__name__) from broken

    async def cancel(self, url: str, job: str, number: int) -> None:
        """Stop an attempt; best effort: a node that cannot be reached stops it by itself when nobody reads."""
        assert self._session is not None
        try:
            timeout = aiohttp.ClientTimeout(total=self._limits.connect_s)
            async with self._session.delete(f"{url}/v1/attempts/{job}/{number}", headers=self._headers(), timeout=timeout):
                return
        except (aiohttp.ClientError, OSError):
            return

    async def watch(self, url: str) -> AsyncIterator[Node | None]:
        """Yield the node whenever it changed, None at each beat. Ends when the connection does.

        Raises:
            NodeLost: It broke, or stayed silent for too long.
        """
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_s, sock_read=self._limits.suspect_s)
        try:
            async with self._session.get(url + "/v1/nodes", headers=self._headers(), timeout=timeout) as answer:
                answer.raise_for_status()
                async for line in answer.content:
                    said: dict[str, Any] = json.loads(line)
                    yield node_of(said["node"]) if "node" in said else None
        except (aiohttp.ClientError, OSError, ValueError) as broken:
            raise NodeLost(url, type(broken).__name__) from broken


def _refusal(status: int, said: Any, job: str, number: int, node: str) -> Exception:
    if status == 409:
        return NodeBusy(node, str(said.get("reason", "busy")), int(said.get("free", 0)))
    if status == 410:
        return AttemptSuperseded(job, number)
    return NodeLost(node, f"it answered {status}")


async def first_of(events: AsyncIterator[Event], limit_s: float, node: str) -> Event:
    """Wait for the first event of an attempt.

    Raises:
        NodeLost: None came in time.
    """
    try:
        return await asyncio.wait_for(anext(events), limit_s)
    except (TimeoutError, StopAsyncIteration) as late:
        raise NodeLost(node, f"it did not answer within {limit_s:g} s") from late

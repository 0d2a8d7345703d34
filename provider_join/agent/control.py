"""How a running agent is asked and told on its own machine: a Unix socket in its home, one line of JSON each way."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

MAX_LINE_BYTES = 64 * 1024
ANSWER_LIMIT_S = 15.0
Answer = Callable[[str], Awaitable[Mapping[str, Any]]]  # what is asked -> what is answered


class NotRunning(Exception):
    """No agent runs in this home."""


class Control:
    """Answers on the socket while the agent runs."""

    def __init__(self, path: Path, answer: Answer) -> None:
        self._path = path
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; a socket that an earlier process left is replaced."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE_BYTES)
        self._path.chmod(0o600)

    async def aclose(self) -> None:
        """Listen no longer."""
        if self._server:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError, TypeError, KeyError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(ANSWER_LIMIT_S):
                asked = json.loads(await reader.readline())
                writer.write(json.dumps(await self._answer(str(asked["do"]))).encode() + b"\n")
                await writer.drain()
        writer.close()


def ask(path: Path, what: str) -> dict[str, Any]:
    """Ask a running agent.

    Raises:
        NotRunning: None answers there.
    """

    async def call() -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE_BYTES)
        writer.write(json.dumps({"do": what}).encode() + b"\n")
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                said: dict[str, Any] = json.loads(await reader.readline())
        finally:
            writer.close()
        return said

    try:
        return asyncio.run(call())
    except (OSError, ValueError, TimeoutError) as gone:
        raise NotRunning from gone

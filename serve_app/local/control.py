"""How commands speak to a running supervisor: a Unix socket that only its own user may open, one question and its answer as lines of JSON."""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from serve_app.local.errors import Refused

MOST_BYTES = 4096
Answer = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


@contextlib.asynccontextmanager
async def listening(path: Path, answer: Answer) -> AsyncIterator[None]:
    """Answer questions. Whoever asks may leave: what was begun is finished."""
    running: set[asyncio.Task[None]] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_take(reader, writer, answer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_unix_server(take, sock=_listener(path), limit=MOST_BYTES)
    try:
        yield
    finally:
        server.close()
        for task in tuple(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _listener(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener


async def _take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
    with contextlib.closing(writer):  # also when the supervisor ends: who asked is told at once
        try:
            said = await answer(json.loads(await reader.readline()))
        except Refused as refused:
            said = {"refused": refused.what, "hint": refused.hint}
        except (ValueError, KeyError, TypeError) as wrong:
            said = {"refused": f"this is no question: {wrong}", "hint": "use `gfe restart`"}
        with contextlib.suppress(OSError):
            writer.write(json.dumps(said).encode() + b"\n")
            await writer.drain()


def ask(path: Path, question: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
    """Ask the supervisor.

    Raises:
        Refused: It refuses, or is not there.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(limit_s)
            asking.connect(str(path))
            asking.sendall(json.dumps(question).encode() + b"\n")
            with asking.makefile("rb") as reader:
                line = reader.readline()
    except OSError as failed:
        raise Refused(f"the supervisor does not answer: {failed}", "see `gfe status`; who started it can ask it") from failed
    if not line:
        raise Refused("the supervisor ended meanwhile", "see `gfe status`")
    said: dict[str, Any] = json.loads(line)
    if "refused" in said:
        raise Refused(said["refused"], said["hint"])
    return said

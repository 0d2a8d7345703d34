"""Runs the examples of pages as they stand, but for the address, as a reader would: each in a folder of its own."""

import asyncio
import os
import shutil
import signal
import sys

import pytest

from serve_app.local.api_examples import MODEL, URL
from tests.apart import NotToBeHad
from tests.clients import apart
from tests.scripted_models import fake

LIMIT_S = 120  # importing a client takes long on a busy machine
NAMES = {"sh": "example.sh", "python": "example.py", "javascript": "example.mjs"}


async def offer(platform):
    """Have the model of the examples offered, for all that they want."""
    model = fake(MODEL)
    model.capabilities = ("completion", "embedding")
    platform.scripts[0].models[MODEL] = model
    await platform.workers[0].refresh()
    await platform.context.feed.poll()


def runner(language, cwd):
    """The command that runs a language's examples; where it is not to be had, the test is skipped."""
    if language == "python":
        return [sys.executable, "-u"]
    if language == "sh":
        return ["bash", "-eu"] if shutil.which("curl") else pytest.skip("curl is not installed")
    try:
        node = apart.node()
    except NotToBeHad as reason:
        pytest.skip(f"not to be had here: {reason}")
    (cwd / "node_modules").symlink_to(apart.JS / "node_modules")
    return [node]


async def run(platform, language, code, cwd, *, until=None):
    """Run an example against the platform under test; answers what it printed: all of it, or what of it was waited for."""
    command = runner(language, cwd)
    script = cwd / NAMES[language]
    script.write_text(code.replace(URL, platform.url))
    environment = os.environ | {"GFE_API_KEY": platform.key, "NO_PROXY": "127.0.0.1"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, script, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, start_new_session=True
    )
    try:
        if until:
            return await asyncio.wait_for(first(until, process.stdout), LIMIT_S)
        out, failed = await asyncio.wait_for(process.communicate(), LIMIT_S)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()
    assert process.returncode == 0, failed.decode() + out.decode()
    return out.decode()


async def first(pattern, pieces):
    """Read pieces, bytes, until a pattern is found in them; answers what matches."""
    read = b""
    async for piece in pieces:
        read += piece
        if found := pattern.search(read.decode(errors="ignore")):
            return found.group()
    raise AssertionError(f"it ended before: {read.decode()}")

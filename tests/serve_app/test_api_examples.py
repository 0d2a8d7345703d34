"""The commands of docs/reference/api.md are run as they stand."""

import asyncio
import json
import os
import shutil

import pytest

from serve_app.local.api_reference import GROUPS, MODEL, URL, example, operations
from tests.serve_app.consumers import Consumer
from tests.serve_app.test_nodes import own_node

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
STREAMS = {"stream_updates"}  # never end
ELSEWHERE = ("/v1/files", "/v1/batches", "/api/computing/webhooks/")  # need a file, or the name of something made before: their own tests


def commands():
    for _, prefixes in GROUPS:
        for method, path, operation in operations(prefixes):
            if operation["operationId"] not in STREAMS and not path.startswith(ELSEWHERE):
                yield pytest.param(example(method, path, operation), id=f"{method} {path}")


@pytest.fixture
async def platform(platform_with):
    platform = await platform_with()
    model = platform.scripts[0].models["fake:words=3"]
    model.name, model.capabilities = MODEL, ("completion", "embedding")
    platform.scripts[0].models = {MODEL: model}
    await platform.workers[0].refresh()
    await platform.context.feed.poll()
    return platform


@pytest.mark.parametrize("command", list(commands()))
async def test_a_command_does_what_it_says(platform, database, command):
    job = ""
    if "{id}" in command:
        answer = await platform.http.post(
            "/api/computing/submit-job/", json={"prompt": "hello", "model": MODEL, "max_tokens": 3}, headers=platform.bearer
        )
        job = MODEL if "/v1/models" in command else answer.json()["job_id"]
    if "/receipt/" in command:
        await Consumer(platform).ended(job)
        await platform.settled()
    if "/nodes/{id}/" in command:
        await own_node(platform, database, platform.bearer, job := "node_mine")
    command = command.replace(URL, platform.url).replace("{id}", job) + " -s --max-time 20 -w '\\n%{http_code}'"
    process = await asyncio.create_subprocess_shell(
        command,
        env={"GFE_API_KEY": platform.key, "PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaint = await process.communicate()
    body, _, status = said.decode().rpartition("\n")
    is_cancel = "DELETE" in command or "/cancel/" in command
    assert status in ({"202", "409"} if is_cancel else {"200", "201"}), body + complaint.decode()
    if "/stream/" not in command and "/healthz" not in command:
        json.loads(body)

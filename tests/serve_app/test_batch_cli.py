"""`gfe batch`, against the platform in this process."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from serve_app.batches.runner import BatchRunner
from serve_app.batches.sealing import SealBroken, seal, unseal
from serve_app.store.batches import BatchStore
from serve_app.store.files import FileStore

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def gfe(platform):
    environment = os.environ | {"GFE_API_URL": platform.url, "GFE_CONSOLE_URL": platform.url, "GFE_API_KEY": platform.key}

    async def run(*arguments, ends=0):
        done = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "serve_app.cli", "batch", *arguments, cwd=ROOT, env=environment, stdout=PIPE, stderr=PIPE
        )
        said, complained = await done.communicate()
        assert done.returncode == ends, complained.decode()
        return (said if ends == 0 else complained).decode()

    return run


@pytest.fixture
async def runner(platform, database):
    batches, files = BatchStore(database.serve_url), FileStore(database.serve_url)
    task = asyncio.create_task(BatchRunner(platform.context, batches, files, look_s=0.05, renew_s=0.1).run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await batches.aclose()
    await files.aclose()


@pytest.fixture
def requests(tmp_path):
    body = {"model": "fake:words=3", "messages": [{"role": "user", "content": "hello"}]}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(json.dumps({"custom_id": name} | line) for name in ("a", "b")) + "\nnonsense\n")
    return path


async def test_a_file_is_sent_and_its_answers_are_printed(gfe, runner, requests):
    batch = json.loads(await gfe("create", str(requests), "--json"))["id"]
    async with asyncio.timeout(20):
        while json.loads(await gfe("status", batch, "--json"))["status"] != "completed":
            await asyncio.sleep(0.05)
    told = await gfe("status", batch)
    assert "answered  2 of 3, 1 failed" in told
    assert "line 3: This line is not valid JSON." in told
    assert [json.loads(line)["custom_id"] for line in (await gfe("results", batch)).splitlines()] == ["a", "b"]
    assert [one["error"]["line"] for one in json.loads(await gfe("results", batch, "--errors", "--json"))] == [3]
    assert batch in await gfe("list")


async def test_a_batch_is_canceled(gfe, requests):
    batch = json.loads(await gfe("create", str(requests), "--json"))["id"]
    assert "is validating" in await gfe("results", batch, ends=1)
    assert "status    cancelling" in await gfe("cancel", batch)


async def test_what_is_refused_is_told_in_one_line(gfe):
    assert (await gfe("status", "batch_nothing", ends=1)).startswith("error: There is no such batch of yours.")


def test_a_seal_opens_with_its_key_and_for_its_batch_alone():
    from ledger.client import new_uuid7

    key, other, batch = b"ab" * 32, b"cd" * 32, new_uuid7()
    sealed = seal(key, "gfe_live_secret", batch)
    assert unseal(key, sealed, batch) == "gfe_live_secret"
    assert sealed != seal(key, "gfe_live_secret", batch)
    for wrong in ((other, sealed, batch), (key, sealed, new_uuid7()), (key, sealed[:-1] + b"x", batch)):
        with pytest.raises(SealBroken):
            unseal(*wrong)

"""The real agent over the real edge gateway: enrolled by its code, answering the jobs of a real ledger's consumers from a scripted runtime."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import pytest

from tests.edge_platform import free_port, running_edge_platform
from tests.scripted_runtime import Script, serve, words_of
from tests.waiting import until

REVOKED = 77
HELLO = "hello there"


@pytest.fixture
async def world(database, ledger_with, tmp_path):
    ledger_port, edge_port = free_port(), free_port()
    ledger = await ledger_with(
        welcome_credits="10.00", public_url=f"http://127.0.0.1:{ledger_port}", agent_url=f"ws://127.0.0.1:{edge_port}/ws/computing/"
    )
    async with running_edge_platform(database, ledger, ledger_port=ledger_port, edge_port=edge_port) as made:
        runner, made.runtime_url = await serve(Script())
        made.folder = tmp_path
        yield made
        await runner.cleanup()


@contextlib.asynccontextmanager
async def real_agent(world):
    """`gfe agent` with a fresh code, in a home of its own, online."""
    world.owner = await world.provider()
    code = (await world.owner.generate())["token"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY", "GFE"))}
    own = {"HOME": str(world.folder), "GFE_OLLAMA_URL": world.runtime_url, "PYTHONPATH": str(Path.cwd())}
    with (world.folder / "out").open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "serve_app.cli",
            "agent",
            "--code",
            code,
            "--url",
            world.ledger_url,
            env=inherited | own,
            stdout=out,
            stderr=out,
        )
    try:
        await until(lambda: process.returncode is not None or any(node.is_healthy for node in nodes(world)), 60)
        assert process.returncode is None, (world.folder / "out").read_text()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def nodes(world):
    return world.platform.context.view.snapshot.nodes.values()


async def test_jobs_run_on_it_with_receipts_that_fit(world):
    async with real_agent(world):
        for model in ("fake:words=16", "fake:long=200@0.01", "fake:thinks"):
            answer = await world.platform.chat(model, max_tokens=250)
            assert answer.status_code == 200, answer.text
        registry = world.edges[0].edge.metrics.registry
        assert registry.get_sample_value("gfe_edge_receipts_total", {"receipt": "good"}) == 3
        assert (await world.platform.chat("fake:500")).status_code == 502
        assert await world.platform.settled() == "7.00"


async def test_an_edge_gateway_that_is_exchanged_in_mid_answer_costs_nothing(world):
    async with real_agent(world):
        asking = asyncio.create_task(world.platform.chat("fake:drip=0.1", text=HELLO, max_tokens=300))
        await until(lambda: any(node.running for node in nodes(world)))
        await asyncio.sleep(1)  # into the answer
        await world.exchange_edge()
        answer = await asking
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == "".join(words_of(HELLO, 200))


async def test_a_revoked_one_ends_with_its_own_status(world):
    async with real_agent(world) as process:
        [code] = await world.owner.tokens()
        await world.owner.call("POST", f"agent-token/{code['id']}/revoke/")
        async with asyncio.timeout(30):
            assert await process.wait() == REVOKED

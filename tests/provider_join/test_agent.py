"""The agent over real sockets: a real worker on a scripted runtime, a platform written from the protocol."""

import asyncio
import contextlib
import random

import aiohttp
import pytest

from cluster.edge import protocol as wire
from cluster.gpus import NoGpus
from cluster.jobs import JobKind
from cluster.limits import Limits
from provider_join.agent import agent as agents
from provider_join.agent import reconnect
from provider_join.agent.agent import Agent
from provider_join.agent.enroll import Platform
from provider_join.agent.home import AgentHome
from provider_join.agent.keys import AgentKey
from provider_join.agent.runtime import SharedRuntime
from provider_join.agent.sharing import Wishes
from provider_join.agent.watching import Watcher
from provider_join.errors import AgentRefused, AgentTooOld
from tests.provider_join.scripted_platform import scripted_platform
from tests.scripted_models import fake, words_of
from tests.scripted_runtime import Script, serve

FAST = Limits(inventory_s=0.05, beat_s=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waits that people would not notice."""
    monkeypatch.setattr(reconnect, "FIRST_S", 0.02)
    monkeypatch.setattr(agents, "LOOK_S", 0.02)
    monkeypatch.setattr(agents, "OWNER_LOOK_S", 0.02)


@pytest.fixture
async def platform():
    async with scripted_platform() as running:
        yield running


@pytest.fixture
async def runtime():
    script = Script()
    runner, script.url = await serve(script)
    yield script
    await runner.cleanup()


@pytest.fixture
async def home(platform, tmp_path):
    home = AgentHome(tmp_path / "agent")
    home.make()
    async with aiohttp.ClientSession() as http:
        await Platform(platform.url, http).enroll(home, "gfe_enroll_" + "a" * 43, "attic")
    return home


class RunningAgent:
    def __init__(self, agent):
        self.agent = agent
        self.task = asyncio.create_task(agent.run())

    async def ended(self, limit_s=10):
        async with asyncio.timeout(limit_s):
            await self.task


@contextlib.asynccontextmanager
async def running(home, runtime, *, share="2", models=(), wishes=None, limits=FAST):
    agent = Agent(
        home, home.enrollment(), AgentKey.read(home.key), SharedRuntime(runtime.url, models, share), NoGpus(), wishes=wishes,
        watcher=Watcher(minds_others=False), limits=limits, rng=random.Random(1),
    )  # fmt: skip
    run = RunningAgent(agent)
    try:
        yield run
    finally:
        agent.stop()
        agent.stop()
        with contextlib.suppress(AgentRefused, AgentTooOld):
            await run.ended()


async def until(condition, what, limit_s=10):
    for _ in range(int(limit_s / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited {limit_s} s for {what}")


async def online(platform):
    async with asyncio.timeout(10):
        while not (platform.inventories and platform.inventories[-1].models and not platform.inventories[-1].paused):
            platform.arrived.clear()
            await platform.arrived.wait()


async def test_an_agent_enrolls_connects_says_what_it_has_and_runs_a_job(platform, runtime, home):
    async with running(home, runtime):
        await online(platform)
        assert platform.enrolled["label"] == "attic"
        offered = {model.name for model in platform.inventories[-1].models}
        assert "fake:words=16" in offered
        assert platform.inventories[-1].slots == 2
        digest = next(model.weights_sha256 for model in platform.inventories[-1].models if model.name == "fake:words=16")
        job, taken = await platform.offer("fake:words=16", "tell me", digest=digest)
        await asyncio.wait_for(taken.ended.wait(), 10)
        assert isinstance(taken.answer, wire.Accept)
        assert taken.text == "".join(words_of("tell me", 16))
        assert taken.end.reason == "stop"
        assert taken.end.total == len(taken.chunks)
        assert platform.receipt_is_good(job, taken, digest)
        await until(lambda: not list(home.outbox.iterdir()), "the outbox to be empty")

"""A real agent on the real platform: it enrolls at the ledger, connects to the edge gateway, runs consumers' jobs, and is cut."""

import asyncio
import contextlib
import random

import aiohttp
import pytest

from cluster.gpus import NoGpus
from cluster.limits import Limits
from provider_join.agent import enroll, reconnect
from provider_join.agent.agent import Agent
from provider_join.agent.enroll import Platform
from provider_join.agent.home import AgentHome
from provider_join.agent.keys import AgentKey
from provider_join.agent.runtime import SharedRuntime
from provider_join.agent.watching import Watcher
from provider_join.errors import AgentRefused, EnrollRefused
from tests.edge_platform import running_edge_platform
from tests.scripted_models import fake, words_of
from tests.scripted_runtime import Script, serve
from tests.waiting import until


@pytest.fixture
async def world(database, ledger_with, monkeypatch):
    ledger = await ledger_with(welcome_credits="10.00", public_url="http://127.0.0.1:8080")
    async with running_edge_platform(database, ledger) as made:
        # The ledger signs for the address that people use; in a test it listens on a port that nobody knew before.
        monkeypatch.setattr(enroll, "origin_of", lambda url: "http://127.0.0.1:8080")
        yield made


@pytest.fixture
async def runtime():
    script = Script()
    script.models = {"m:1b": fake("m:1b")}
    script.always = "fake:words=16"
    runner, script.url = await serve(script)
    yield script
    await runner.cleanup()


async def enrolled(world, folder, owner=None):
    """A home that the ledger knows, whose agent connects to the test's edge gateway."""
    home = AgentHome(folder)
    home.make()
    owner = owner or await world.provider()
    code = (await owner.generate(label="attic"))["token"]
    async with aiohttp.ClientSession() as http:
        told = await Platform(world.ledger_url, http).enroll(home, code, None)
    AgentKey.read(home.key)
    place = world.edges[0].agent_url
    home.enrolled.write_text(home.enrolled.read_text().replace(told.ws_url, place))
    return home, owner, code


@contextlib.asynccontextmanager
async def online(world, home, runtime, shared=SharedRuntime):
    agent = Agent(
        home, home.enrollment(), AgentKey.read(home.key), shared(runtime.url), NoGpus(), watcher=Watcher(minds_others=False),
        limits=Limits(inventory_s=1), rng=random.Random(1),
    )  # fmt: skip
    task = asyncio.create_task(agent.run())
    try:
        await until(lambda: (node := world.seen(agent.enrollment.node)) and node.has_room, 60)
        yield agent, task
    finally:
        agent.stop()
        agent.stop()
        with contextlib.suppress(AgentRefused):
            await asyncio.wait_for(task, 60)


async def test_a_consumers_job_runs_on_an_agent_and_carries_its_receipt(world, runtime, tmp_path):
    home, _, _ = await enrolled(world, tmp_path / "a")
    async with online(world, home, runtime):
        answer = await world.platform.chat("m:1b", "tell me")
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == "".join(words_of("tell me", 16))
        assert await world.platform.settled() == "9.00"
        await until(lambda: not list(home.outbox.iterdir()), 60)
    assert world.edges[0].edge.metrics.receipts.labels("good")._value.get() == 1
    assert world.edges[0].edge.metrics.receipts.labels("bad")._value.get() == 0


async def test_row_17_an_answer_whose_agents_socket_is_cut_again_and_again_is_whole_and_paid_once(
    world, runtime, tmp_path, monkeypatch, figure
):
    """Row 17 of the fault matrix, with the books."""
    monkeypatch.setattr(reconnect, "AT_WORK_S", 0.3)
    runtime.always = "fake:long=200@0.02"
    home, _, _ = await enrolled(world, tmp_path / "a")
    async with online(world, home, runtime) as (agent, _):
        asked = asyncio.create_task(world.platform.chat("m:1b", "go on"))
        cuts = 0
        while not asked.done():
            await asyncio.sleep(0.4)
            if agent.session.welcome and (socket := agent._connection._socket) and socket._response.connection:
                socket._response.connection.transport.abort()
                cuts += 1
        answer = await asked
        assert answer.json()["choices"][0]["message"]["content"] == "".join(words_of("go on", 200)), answer.text
        assert cuts >= 3
        assert sum(bool(one.get("messages")) for one in runtime.requests) == 1
        assert await world.platform.settled() == "9.00"
        figure(17, "an answer of 200 words on the platform, whole and paid once, its agent's socket cut", f"{cuts} times")


async def test_a_revoked_agent_is_cut_and_stops_with_77(world, runtime, tmp_path):
    home, owner, _ = await enrolled(world, tmp_path / "a")
    async with online(world, home, runtime) as (_, task):
        [token] = await owner.tokens()
        await owner.call("POST", f"agent-token/{token['id']}/revoke/")
        with pytest.raises(AgentRefused) as refused:
            await asyncio.wait_for(task, 60)
        assert refused.value.exit_code == 77


async def test_a_code_works_once_and_the_same_machine_may_repeat_it(world, tmp_path):
    home, _, code = await enrolled(world, tmp_path / "a")
    before = home.enrollment()
    async with aiohttp.ClientSession() as http:
        assert await Platform(world.ledger_url, http).enroll(home, code, None) == before
        other = AgentHome(tmp_path / "b")
        other.make()
        with pytest.raises(EnrollRefused, match="works once") as refused:
            await Platform(world.ledger_url, http).enroll(other, code, None)
        assert "console" in refused.value.hint
        assert other.enrollment() is None


async def test_a_lost_answer_to_an_enrollment_is_asked_for_again_with_the_same_key(world, tmp_path):
    home = AgentHome(tmp_path / "a")
    home.make()
    owner = await world.provider()
    code = (await owner.generate())["token"]
    key = AgentKey.read_or_make(home.next_key)
    async with aiohttp.ClientSession() as http:
        platform = Platform(world.ledger_url, http)
        kept, home_kept = AgentHome.keep_enrollment, []
        AgentHome.keep_enrollment = lambda self, enrollment: home_kept.append(enrollment)  # the process died before it wrote
        try:
            await platform.enroll(home, code, None)
        finally:
            AgentHome.keep_enrollment = kept
        again = await platform.enroll(home, code, None)
    assert again == home_kept[0]
    assert AgentKey.read(home.key).public_text == key.public_text


async def test_a_new_code_for_the_same_node_gives_it_a_new_key(world, runtime, tmp_path):
    home, owner, _ = await enrolled(world, tmp_path / "a")
    node, key = home.enrollment().node, AgentKey.read(home.key).public_text
    code = (await owner.generate(node_id=node))["token"]
    async with aiohttp.ClientSession() as http:
        again = await Platform(world.ledger_url, http).enroll(home, code, None)
    assert again.node == node
    assert AgentKey.read(home.key).public_text != key
    home.enrolled.write_text(home.enrolled.read_text().replace(again.ws_url, world.edges[0].agent_url))
    async with online(world, home, runtime):
        assert (await world.platform.chat("m:1b", "new key")).status_code == 200

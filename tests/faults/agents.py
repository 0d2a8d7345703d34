"""The agents' side of a platform to break: an edge gateway and agents that are programs in processes of their own, and agents by the dozen."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
from dataclasses import asdict
from itertools import count

import aiohttp
import httpx2
from prometheus_client.parser import text_string_to_metric_families

from cluster import processes
from cluster.dispatcher import EdgeMember
from cluster.gpus import NoGpus
from provider_join.agent.agent import Agent
from provider_join.agent.enroll import Platform
from provider_join.agent.home import AgentHome
from provider_join.agent.keys import AgentKey
from provider_join.agent.main import START, Start
from provider_join.agent.runtime import SharedRuntime
from provider_join.agent.watching import Watcher
from tests import edge_agent
from tests.edge_agents import HonestAgent, Identity
from tests.edge_platform import free_port, public_ledger
from tests.faults import bad_runtime
from tests.faults.node_process import ROOT, START_LIMIT_S, Child
from tests.faults.platform import LEDGER, faulty_platform, until

ONLINE_LIMIT_S = 30


class Program(Child):
    """A program as people start it, by its environment; what it says goes to a file."""

    def __init__(self, *words, environment, log):
        super().__init__(*words)
        self._environment, self._log = environment, log

    async def start(self):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GFE_", "RAY_"))}
        with self._log.open("ab") as log:
            environment = inherited | {"PYTHONPATH": str(ROOT)} | self._environment
            self._process = subprocess.Popen(self._words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=environment)
        self._all = processes.process_of(self._process.pid)
        return self

    @property
    def said(self):
        """All that it said so far."""
        return self._log.read_text()

    async def ended(self, limit_s):
        """Wait for its end; answer its status."""
        await until(lambda: not self.is_alive, limit_s)
        return self._process.returncode


class Gateway(Program):
    """`python -m serve_app.edge`, again on the same ports whenever it is started."""

    def __init__(self, settings, port, node_port, log):
        named = {f"GFE_{name.upper()}": str(value) for name, value in settings.items()}
        super().__init__("serve_app.edge", environment=named | {"GFE_EDGE_PORT": str(port), "GFE_EDGE_NODE_PORT": str(node_port)}, log=log)
        self.agent_url = f"ws://127.0.0.1:{port}/ws/computing/"
        self.node_url = f"http://127.0.0.1:{node_port}"

    async def start(self):
        await super().start()
        async with httpx2.AsyncClient() as http, asyncio.timeout(START_LIMIT_S):
            while not await _answers(http, f"{self.node_url}/healthz"):
                assert self.is_alive, self.said
                await asyncio.sleep(0.05)
        return self

    async def metric(self, name, **labels):
        """One of its counters, 0 where it never counted."""
        async with httpx2.AsyncClient() as http:
            page = (await http.get(f"{self.node_url}/metrics")).text
        samples = [one for family in text_string_to_metric_families(page) for one in family.samples]
        return sum(one.value for one in samples if one.name == f"gfe_edge_{name}" and labels.items() <= one.labels.items())


async def _answers(http, url):
    with contextlib.suppress(httpx2.TransportError):
        return (await http.get(url)).status_code == 200
    return False


class Machine:
    """Somebody's machine: a home, a scripted runtime in this process, and the agent's program."""

    def __init__(self, owner, script, runtime_url, home):
        self.owner, self.script, self.runtime_url, self.home = owner, script, runtime_url, home
        self.agent = None

    @property
    def node(self):
        return self.home.enrollment().node

    async def start(self, url=None, code=None):
        """Run `gfe agent`; with a code the first time."""
        environment = {"HOME": str(self.home.root.parent), "GFE_AGENT_HOME": str(self.home.root), "GFE_OLLAMA_URL": self.runtime_url}
        environment[START] = json.dumps(asdict(Start(code=code, url=url, share="2", minds_battery=False, minds_others=False)))
        log = self.home.root.with_name(f"{self.home.root.name}.log")
        self.agent = await Program("provider_join.agent", environment=environment, log=log).start()

    def copied(self, folder):
        """The same home on another machine: somebody copied the key."""
        shutil.copytree(self.home.root, folder, ignore=shutil.ignore_patterns("*.sock", "lock", "outbox"))
        return Machine(self.owner, self.script, self.runtime_url, AgentHome(folder))


class World:
    """What a row about agents touches: the platform, its edge gateway, its agents."""

    def __init__(self, platform, gateway, ledger_url, folder, stack):
        self.platform, self.gateway, self.ledger_url, self.folder, self._stack = platform, gateway, ledger_url, folder, stack
        self.machines = []
        self._numbers = count()

    # --- what is seen ------------------------------------------------------------------------------------------------------------------

    def node(self, id_):
        """A node as the first replica sees it; None: it does not."""
        return self.platform.known().get(id_)

    def is_online(self, id_):
        """Whether a node may get jobs."""
        return (node := self.node(id_)) is not None and node.is_healthy and bool(node.models)

    def serving(self):
        """The machine whose runtime answers now."""
        return next((machine for machine in self.machines if machine.script.running), None)

    # --- who joins ---------------------------------------------------------------------------------------------------------------------

    async def owner(self):
        return await edge_agent.account(self.platform.ledger, self.platform.database)

    async def machines_of(self, number):
        """So many new machines, started side by side."""
        return await asyncio.gather(*(self.machine() for _ in range(number)))

    async def machine(self):
        """A new provider's machine, whose agent runs and may get jobs."""
        script = bad_runtime.BadScript()
        runner, runtime_url = await bad_runtime.serve(script)
        self._stack.push_async_callback(runner.cleanup)
        owner = await self.owner()
        machine = Machine(owner, script, runtime_url, AgentHome(self.folder / f"agent-{next(self._numbers)}"))
        await machine.start(self.ledger_url, (await owner.generate())["token"])
        self.ends_with_the_world(machine)
        await self.until_online(machine)
        self.machines.append(machine)
        return machine

    def ends_with_the_world(self, machine):
        self._stack.callback(machine.agent.stop)

    async def until_online(self, machine):
        def is_online():
            assert machine.agent.is_alive, machine.agent.said
            return (known := machine.home.enrollment()) and self.is_online(known.node)

        await until(is_online, ONLINE_LIMIT_S)

    async def scripted(self, kind=HonestAgent, **options):
        """An agent that says what a test wants."""
        http = await self._stack.enter_async_context(httpx2.AsyncClient(base_url=self.ledger_url))
        owner, agent = await self.owner(), edge_agent.Agent(http)
        node = (await agent.enroll((await owner.generate())["token"])).json()["node_id"]
        token = (await agent.token(node, origin=self.ledger_url)).json()["access_token"]
        made = kind(self.gateway.agent_url, Identity(node, agent.key), lambda: token, **options)
        made.owner = owner
        self._stack.push_async_callback(made.stop)
        await until(lambda: self.is_online(node), ONLINE_LIMIT_S)
        return made

    async def many(self, number, runtime_url):
        """So many of the product's agents in this process, on one runtime; answers their nodes."""
        async with aiohttp.ClientSession() as http:
            homes = await asyncio.gather(*(self._enrolled(http) for _ in range(number)))
        for home in homes:
            agent = Agent(
                home, home.enrollment(), AgentKey.read(home.key), SharedRuntime(runtime_url), NoGpus(), watcher=Watcher(minds_others=False),
                rng=random.Random(home.root.name),
            )  # fmt: skip
            self._stack.push_async_callback(_ended, agent, asyncio.create_task(agent.run()))
        nodes = [home.enrollment().node for home in homes]
        await until(lambda: all(map(self.is_online, nodes)), ONLINE_LIMIT_S)
        return nodes

    async def _enrolled(self, http):
        home = AgentHome(self.folder / f"agent-{next(self._numbers)}")
        home.make()
        await Platform(self.ledger_url, http).enroll(home, (await (await self.owner()).generate())["token"], None)
        return home


async def _ended(agent, task):
    agent.stop()
    agent.stop()
    await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def world_of_agents(database, ledger_with, folder, *, reference_url=None, **options):
    """Run a platform without machines of its own, and an edge gateway; agents come by `World.machine`."""
    port, node_port, ledger_port = (free_port() for _ in range(3))
    ledger_url = f"http://127.0.0.1:{ledger_port}"
    ledger = await ledger_with(**LEDGER, nodes_per_network=100, public_url=ledger_url, agent_url=f"ws://127.0.0.1:{port}/ws/computing/")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(public_ledger(ledger, ledger_port))
        settings = {"secrets_dir": ledger.folder, "ledger_socket": ledger.context.settings.ledger_socket, "ledger_url": ledger_url}
        if reference_url:
            settings["reference_url"] = reference_url
        gateway = Gateway(settings, port, node_port, folder / "gateway.log")
        stack.callback(gateway.stop)
        edges = (EdgeMember(gateway.node_url),)
        starting = asyncio.create_task(gateway.start())
        platform = await stack.enter_async_context(faulty_platform(database, ledger, nodes=0, edges=edges, **options))
        await starting
        agents = await stack.enter_async_context(contextlib.AsyncExitStack())
        yield World(platform, gateway, ledger_url, folder, agents)

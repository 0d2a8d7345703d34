"""The platform in one process with edge nodes: real ledger, Dispatcher, driver and edge gateway; agents that enroll as real ones do."""

import asyncio
import contextlib
import socket
from urllib.parse import urlsplit

import httpx2
import uvicorn

from cluster.dispatcher import Dispatcher, EdgeMember
from cluster.view import ClusterView
from ledger.app import create_public_app
from serve_app.edge.running import running_edge
from serve_app.edge.settings import EdgeSettings
from tests.edge_agent import Agent, account
from tests.edge_agents import HonestAgent, Identity
from tests.platform_in_process import running_platform
from tests.waiting import until


class Handle:
    """The Dispatcher as an actor's handle."""

    def __init__(self, dispatcher):
        self._dispatcher = dispatcher

    def __getattr__(self, method):
        call = getattr(self._dispatcher, method)
        return type("Remote", (), {"remote": staticmethod(call)})


@contextlib.asynccontextmanager
async def public_ledger(ledger, port):
    """The ledger's public app on a port."""
    server = uvicorn.Server(uvicorn.Config(create_public_app(ledger.context), host="127.0.0.1", port=port, log_config=None, lifespan="off"))
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class EdgePlatform:
    """What a test touches: `platform` (see platform_in_process), edge gateways, agents."""

    def __init__(self, platform, database, ledger_url, stack):
        self.platform, self.database, self.ledger_url, self.stack = platform, database, ledger_url, stack
        self.edges = []
        self.members = []

    async def start_edge(self, *, edge_port=0, edge_node_port=0, **settings):
        chosen = EdgeSettings(
            secrets_dir=self.platform.settings.secrets_dir, ledger_socket=self.platform.settings.ledger_socket, ledger_url=self.ledger_url,
            edge_port=edge_port, edge_node_port=edge_node_port, **settings,
        )  # fmt: skip
        self.stack_of_edge = stack = contextlib.AsyncExitStack()
        running = await stack.enter_async_context(running_edge(chosen))
        self.stack.push_async_callback(stack.aclose)
        self.edges.append(running)
        self.members.append(EdgeMember(running.node_url))
        return running

    async def exchange_edge(self):
        """Stop the edge gateway as a deploy does, and start another one in its place."""
        old = self.edges.pop()
        self.members.clear()
        await self.stack_of_edge.aclose()
        await self.start_edge(edge_port=urlsplit(old.agent_url).port, edge_node_port=urlsplit(old.node_url).port)

    async def provider(self):
        """A person who has machines."""
        return await account(self.platform.ledger, self.database)

    async def agent(self, owner=None, **options):
        """An honest agent that enrolled; answers it when its node is seen by the Dispatcher."""
        owner = owner or await self.provider()
        http = httpx2.AsyncClient(base_url=self.ledger_url)
        self.stack.push_async_callback(http.aclose)
        enrolled = Agent(http)
        node = (await enrolled.enroll((await owner.generate())["token"])).json()["node_id"]
        identity = Identity(node, enrolled.key)
        token = (await enrolled.token(node)).json()["access_token"]
        agent = HonestAgent(self.edges[0].agent_url, identity, lambda: token, **options)
        agent.owner = owner
        self.stack.push_async_callback(agent.stop)
        await until(lambda: self.seen(node) and self.seen(node).is_healthy)
        return agent

    def seen(self, node):
        return self.platform.context.view.snapshot.nodes.get(node)


@contextlib.asynccontextmanager
async def running_edge_platform(database, ledger, *, ledger_port=None, edge_port=0, reference_url=None, **options):
    """Run it over a ledger that runs already, on these ports where somebody must know them before; tokens are counted at the reference."""
    async with contextlib.AsyncExitStack() as stack:
        ledger_url = await stack.enter_async_context(public_ledger(ledger, ledger_port or free_port()))
        platform = await stack.enter_async_context(running_platform(database, ledger, nodes=0, **options))
        made = EdgePlatform(platform, database, ledger_url, stack)

        async def members():
            return list(made.members)

        async def locate(member):
            return member.url

        dispatcher = Dispatcher(members, locate, platform.context.nodes.watch)
        dispatcher.start()
        stack.push_async_callback(dispatcher.aclose)
        view = ClusterView(lambda: Handle(dispatcher))
        view.start()
        stack.push_async_callback(view.aclose)
        platform.context.view = view
        feeding = asyncio.create_task(platform.context.feed.run())

        async def stop_feeding():
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

        stack.push_async_callback(stop_feeding)
        made.dispatcher = dispatcher
        await made.start_edge(edge_port=edge_port, reference_url=reference_url)
        await until(lambda: view.age_s < 5)
        yield made

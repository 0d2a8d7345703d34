"""An edge gateway in this process, without a ledger: what the ledger would say is said by the test."""

import contextlib
import uuid

import pytest

from cluster.edge.counting import ReferenceCounter
from cluster.edge.facts import NodeFacts
from cluster.edge.gateway import EdgeGateway
from cluster.edge.metrics import EdgeMetrics
from cluster.edge.site import AgentSite
from cluster.edge.sockets import AgentSockets
from cluster.edge.tokens import AgentVerifier
from cluster.jobs import Attempt, JobKind
from cluster.node_api import serve_node
from cluster.node_client import NodeClient
from cluster.service_tokens import ServiceTokens, TokenVerifier
from serve_app.local.secrets import make_service_key
from tests.edge_agents import DIGEST, HonestAgent, Identity, Issuer, connect, inventory
from tests.waiting import until


class RunningEdge:
    """What a test touches of an edge gateway."""

    def __init__(self, gateway, agent_url, url, client, issuer, known):
        self.gateway, self.agent_url, self.url, self.client, self.issuer, self.known = gateway, agent_url, url, client, issuer, known
        self.stack = contextlib.AsyncExitStack()

    def enroll(self, node="node_edge", *, state="active", tier="verified"):
        identity = Identity(node)
        self.known[node] = NodeFacts(name=node, state=state, tier=tier, key=identity.jkt, public_key=identity.raw)
        return identity

    async def socket(self, identity, **options):
        """A raw socket, before `hello`."""
        socket = await connect(self.agent_url, self.issuer.token(identity), **options)
        self.stack.push_async_callback(socket.aclose)
        return socket

    async def ready(self, identity, *, slots=2, resume=(), **more):
        """A raw socket that said what it offers, and was heard."""
        socket = await self.socket(identity)
        await socket.send(type="hello", versions=[1], agent_version="0.1.0", boot_id="b", resume=list(resume))
        socket.welcome = await socket.until("welcome")
        await socket.send(inventory(slots, **more))
        await self.heard(identity)
        return socket

    async def heard(self, identity):
        """Wait until what the agent offers is known: a job that comes before is refused."""
        await until(lambda: "has not said yet" not in self.node(identity.node).reason)

    async def honest(self, identity, **options):
        agent = HonestAgent(self.agent_url, identity, lambda: self.issuer.token(identity), **options)
        self.stack.push_async_callback(agent.stop)
        await agent.is_ready.wait()
        await self.heard(identity)
        return agent

    def node(self, id_="node_edge"):
        return next((node for node in self.gateway.nodes() if node.id == id_), None)

    def attempt(self, node="node_edge", job=None, number=1, **more):
        fields = {
            "kind": JobKind.CHAT,
            "model": "m",
            "model_digest": DIGEST,
            "request": {"messages": [{"role": "user", "content": "hello"}]},
            "max_tokens": 1000,
        }
        return Attempt(job=job or f"job_{uuid.uuid4().hex}", number=number, node=node, **(fields | more))

    async def run(self, attempt):
        """All events of an attempt, through the node protocol."""
        return [event async for event in self.client.run(self.url, attempt)]

    def metric(self, name, **labels):
        return self.gateway.metrics.registry.get_sample_value(f"gfe_edge_{name}", labels) or 0


@pytest.fixture
async def edge_with(tmp_path):
    """Start edge gateways; they know the same nodes and keys, as several of one platform do."""
    make_service_key(tmp_path, "serve")
    tokens = ServiceTokens((tmp_path / "service_serve.pem").read_bytes(), "serve")
    node_verifier = TokenVerifier((tmp_path / "service_serve.pub.pem").read_bytes(), "node")
    client = NodeClient(lambda: tokens.mint("node"))
    await client.start()
    issuer, known, stack = Issuer(), {}, contextlib.AsyncExitStack()

    async def start(*, counter=None, port=0, node_port=0, max_agents=5000, alarm=None, trusted=()):
        async def fetch():
            return issuer.jwks

        async def find(node):
            return known.get(node)

        verifier = AgentVerifier(fetch)
        gateway = EdgeGateway(known.get, verifier, counter or ReferenceCounter(None), EdgeMetrics(), alarm)
        gateway.start()
        sockets = AgentSockets(gateway, verifier, find, max_agents=max_agents, trusted=trusted)
        site = AgentSite(sockets, "127.0.0.1", port)
        agent_url = await site.start()
        runner, url = await serve_node(gateway, node_verifier, "127.0.0.1", node_port)
        running = RunningEdge(gateway, agent_url, url, client, issuer, known)
        running.site, running.runner, running.site_sockets = site, runner, sockets

        async def stop():
            await running.stack.aclose()
            await site.aclose()
            await runner.cleanup()
            await gateway.aclose()

        running.stop = stop
        stack.push_async_callback(stop)
        return running

    yield start
    await stack.aclose()
    await client.aclose()


@pytest.fixture
async def edge(edge_with):
    return await edge_with()

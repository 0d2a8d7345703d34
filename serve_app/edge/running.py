"""An edge gateway put together: the ledger's feed and keys, the agents' listener, the node protocol's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from cluster.edge.addresses import networks_of
from cluster.edge.counting import ReferenceCounter
from cluster.edge.gateway import EdgeGateway
from cluster.edge.metrics import EdgeMetrics
from cluster.edge.protocol import CLOSE_RESTART
from cluster.edge.site import AgentSite, health
from cluster.edge.sockets import AgentSockets
from cluster.edge.tokens import FETCH_LIMIT_S, AgentVerifier, fetch_from
from cluster.node_api import serve_node
from cluster.runtime.ollama import OllamaRuntime
from cluster.service_tokens import ServiceTokens, TokenVerifier
from ledger.client import LedgerClient
from serve_app.edge.alarms import CountAlarms
from serve_app.edge.directory import Directory
from serve_app.edge.settings import EdgeSettings
from serve_app.feed import LedgerFeed
from serve_app.metrics_page import metrics_page

SERVICE = "edge"
GOODBYE_S = 1.0  # for close frames to leave


@dataclass(frozen=True, slots=True)
class RunningEdge:
    """Where an edge gateway listens: for agents, and for our own services."""

    edge: EdgeGateway
    agent_url: str
    node_url: str


@asynccontextmanager
async def running_edge(settings: EdgeSettings) -> AsyncIterator[RunningEdge]:
    """Run one; when it ends, agents are told to come back."""
    tokens = ServiceTokens(settings.secret("service_edge.pem"), SERVICE)
    ledger = LedgerClient(settings.ledger, lambda: tokens.mint("ledger-internal"))
    await ledger.start()
    session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FETCH_LIMIT_S), trust_env=False)
    reference = OllamaRuntime(settings.reference_url) if settings.reference_url else None
    if reference:
        await reference.start()
    feed = LedgerFeed(ledger, lambda _kind, _subject: None)
    directory = Directory(feed)
    verifier = AgentVerifier(fetch_from(session, f"{settings.ledger_url.rstrip('/')}/.well-known/jwks.json"))
    metrics = EdgeMetrics()
    alarms = CountAlarms(ledger)
    edge = EdgeGateway(directory.facts, verifier, ReferenceCounter(reference), metrics, alarms.note)
    edge.start()
    loops = [asyncio.create_task(feed.run()), asyncio.create_task(verifier.keep_fresh()), asyncio.create_task(alarms.run())]
    trusted = networks_of(settings.trusted_proxies)
    sockets = AgentSockets(edge, verifier, directory.find, max_agents=settings.edge_max_agents, trusted=trusted)
    site = AgentSite(sockets, settings.edge_host, settings.edge_port)
    beside = {"/healthz": health, "/metrics": metrics_page(metrics.registry)}
    serve = TokenVerifier(settings.secret("service_serve.pub.pem"), "node")
    runner, node_url = await serve_node(edge, serve, settings.edge_node_host, settings.edge_node_port, beside)
    try:
        yield RunningEdge(edge, await site.start(), node_url)
    finally:
        site.stop_listening()
        await edge.leave(CLOSE_RESTART, GOODBYE_S)
        await site.aclose()
        await runner.cleanup()
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await edge.aclose()
        if reference:
            await reference.aclose()
        await session.close()
        await ledger.aclose()

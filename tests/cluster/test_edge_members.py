"""The Dispatcher over edge gateways: one watch tells of many nodes, and a node is where its agent connected last."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from cluster.dispatcher import Dispatcher, EdgeMember
from cluster.errors import NodeLost
from cluster.nodes import NodeKind
from tests.cluster.builders import node
from tests.waiting import until

ONE, OTHER = "http://edge-1", "http://edge-2"


class Edges:
    """Edge gateways as the Dispatcher reaches them."""

    def __init__(self, *urls):
        self.members = [EdgeMember(url) for url in urls]
        self.inboxes = {url: asyncio.Queue() for url in urls}

    async def list(self):
        return list(self.members)

    async def locate(self, member):
        return member.url

    async def watch(self, url):
        while (said := await self.inboxes[url].get()) is not None:
            if isinstance(said, Exception):
                raise said
            yield said

    def say(self, url, *said):
        for one in said:
            self.inboxes[url].put_nowait(one)


def edge(id_, epoch=1, **more):
    return node(id_, kind=NodeKind.EDGE, epoch=epoch, **more)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("cluster.dispatcher.LOOK_S", 0.02)
    monkeypatch.setattr("cluster.dispatcher.RETRY_S", 0.02)


@asynccontextmanager
async def running(edges):
    dispatcher = Dispatcher(edges.list, edges.locate, edges.watch)
    dispatcher.start()
    try:
        yield dispatcher, lambda: dispatcher.snapshot().nodes
    finally:
        await dispatcher.aclose()


async def test_one_watch_tells_of_many_nodes_and_its_end_loses_all_of_them():
    edges = Edges(ONE, OTHER)
    async with running(edges) as (_, seen):
        edges.say(ONE, *(edge(f"node_{n}") for n in range(5)))
        edges.say(OTHER, edge("node_other"))
        await until(lambda: len(seen()) == 6)
        assert {one.url for one in seen().values()} == {ONE, OTHER}
        edges.say(ONE, NodeLost(ONE, "silent"))
        await until(lambda: not any(seen()[f"node_{n}"].is_healthy for n in range(5)))
        assert seen()["node_other"].is_healthy
        edges.say(ONE, edge("node_3", epoch=2))
        await until(lambda: seen()["node_3"].is_healthy)


async def test_a_node_is_where_its_agent_connected_last_whatever_the_other_says_and_whoever_is_lost():
    edges = Edges(ONE, OTHER)
    async with running(edges) as (_, seen):
        edges.say(ONE, edge("node_a", epoch=1))
        await until(lambda: "node_a" in seen())
        edges.say(OTHER, edge("node_a", epoch=2))
        await until(lambda: seen()["node_a"].url == OTHER)
        edges.say(ONE, edge("node_a", epoch=1, is_healthy=False, reason="its agent is not connected"), edge("node_b"))
        await until(lambda: "node_b" in seen())
        assert (seen()["node_a"].url, seen()["node_a"].is_healthy) == (OTHER, True)
        edges.say(ONE, NodeLost(ONE, "silent"))
        await until(lambda: not seen()["node_b"].is_healthy)
        assert seen()["node_a"].is_healthy
        edges.say(OTHER, NodeLost(OTHER, "silent"))
        await until(lambda: not seen()["node_a"].is_healthy)


async def test_nodes_of_an_edge_gateway_that_is_taken_out_are_dropped():
    edges = Edges(ONE, OTHER)
    async with running(edges) as (_, seen):
        edges.say(ONE, edge("node_a"))
        edges.say(OTHER, edge("node_b"))
        await until(lambda: len(seen()) == 2)
        edges.members.pop(0)
        await until(lambda: set(seen()) == {"node_b"})


async def test_a_node_whose_agent_stays_away_is_not_told_of_for_ever(monkeypatch):
    monkeypatch.setattr("cluster.dispatcher.SILENT_KEPT_S", 0.2)
    edges = Edges(ONE)
    async with running(edges) as (_, seen):
        edges.say(ONE, edge("node_a"), edge("node_b"))
        await until(lambda: len(seen()) == 2)
        edges.say(ONE, edge("node_a", is_healthy=False))
        await until(lambda: set(seen()) == {"node_b"})
        edges.say(ONE, edge("node_a", epoch=2))
        await until(lambda: len(seen()) == 2)

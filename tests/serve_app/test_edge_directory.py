"""How an edge gateway finds a node that enrolled a moment ago."""

import asyncio

import pytest

from ledger.client import FeedEntry, FeedPage
from serve_app.edge import directory as directories
from serve_app.edge.directory import Directory
from serve_app.feed import LedgerFeed


class Ledger:
    """Tells the nodes that were added since it was asked last."""

    def __init__(self):
        self.fresh, self.asked = [], 0

    def add(self, *names):
        detail = {"owner": "ada", "kind": "edge", "state": "active"}
        self.fresh += [FeedEntry(seq=1, kind="node", subject=name, detail=detail) for name in names]

    async def feed(self, after, limit=500):
        self.asked += 1
        await asyncio.sleep(0.01)
        told, self.fresh = self.fresh, []
        return FeedPage(seq=1, entries=told, reset=False)


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def directory(ledger):
    return Directory(LedgerFeed(ledger, lambda *_: None))


async def test_a_node_that_is_not_known_yet_is_looked_for_at_once(directory, ledger):
    ledger.add("node_a")
    assert (await directory.find("node_a")).state == "active"
    await directory.find("node_a")
    assert ledger.asked == 1


async def test_two_that_enroll_at_one_moment_are_both_found(directory, ledger):
    ledger.add("node_a")
    assert await directory.find("node_a")
    ledger.add("node_b")
    assert await directory.find("node_b"), "the look just before told nothing of it"


async def test_many_that_come_together_share_a_look_and_looks_have_a_pause_between_them(directory, ledger, monkeypatch):
    monkeypatch.setattr(directories, "LOOK_LIMIT_S", 0.3)
    ledger.add(*(f"node_{n}" for n in range(50)))
    found = await asyncio.gather(*(directory.find(f"node_{n}") for n in range(50)))
    assert all(found)
    assert ledger.asked <= 2
    before = ledger.asked
    assert await asyncio.gather(*(directory.find("node_strange") for _ in range(50))) == [None] * 50
    assert ledger.asked <= before + 1

"""What a replica keeps of the ledger's feed: whose nodes there are, and which of them take a consumer's jobs."""

import pytest

from ledger.client import FeedEntry, FeedPage
from serve_app.feed import LedgerFeed


class Pages:
    """A ledger that answers one page after another."""

    def __init__(self, *pages):
        self.pages = list(pages)

    async def feed(self, after, limit=500):
        return self.pages.pop(0)


def node(id_, owner, kind="trusted", state="active", seq=1):
    return FeedEntry(seq=seq, kind="node", subject=id_, detail={"owner": owner, "kind": kind, "state": state})


def page(*entries, reset=False):
    return FeedPage(seq=9, entries=list(entries), reset=reset)


@pytest.fixture
async def feed():
    made = LedgerFeed(
        Pages(
            page(
                node("node_a", "ada"), node("node_b", "ada", "edge"), node("node_c", "bob", "edge"), node("node_d", "bob", state="paused")
            ),
            page(node("node_d", "bob"), node("node_c", "bob", "edge", "banned")),
            page(node("node_e", "eve"), reset=True),
        ),
        lambda *_: None,
    )
    await made.poll()
    return made


async def test_inactive_nodes_and_a_consumers_own_agents_are_closed_to_them(feed):
    assert feed.closed_to("ada") == {"node_b", "node_d"}
    assert feed.closed_to("bob") == {"node_c", "node_d"}
    assert feed.closed_to("nobody") == {"node_d"}


async def test_what_changes_is_known_after_the_next_poll_and_a_reset_forgets_all(feed):
    await feed.poll()
    assert feed.closed_to("ada") == {"node_b", "node_c"}
    await feed.poll()
    assert feed.closed_to("ada") == frozenset()


async def test_a_provider_is_named_by_a_node_or_by_its_owner(feed):
    assert feed.nodes_of("node_c") == {"node_c"}
    assert feed.nodes_of("ada") == {"node_a", "node_b"}
    assert feed.nodes_of("nobody") == frozenset()

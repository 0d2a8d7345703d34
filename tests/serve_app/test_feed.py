"""What a replica keeps of the ledger's feed: whose nodes there are, and which of them take a consumer's jobs."""

import asyncio

import pytest

from ledger.client import FeedEntry, FeedPage, LedgerUnavailable
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


async def test_who_names_what_is_not_known_yet_hears_it_at_once_and_many_cause_one_poll():
    asked = []

    class Ledger:
        async def feed(self, after, limit=500):
            asked.append(after)
            await asyncio.sleep(0.01)
            if len(asked) == 3:
                raise LedgerUnavailable
            return page(node("node_a", "ada")) if len(asked) == 2 else page()

    feed = LedgerFeed(Ledger(), lambda *_: None)
    await feed.poll()
    assert feed.nodes_of("ada") == frozenset()
    await asyncio.gather(*(feed.catch_up() for _ in range(20)))
    assert (feed.nodes_of("ada"), len(asked)) == ({"node_a"}, 2)
    await feed.catch_up()
    assert (feed.nodes_of("ada"), len(asked)) == ({"node_a"}, 3)  # a silent ledger changes nothing


async def test_a_provider_is_named_by_a_node_or_by_its_owner(feed):
    assert feed.nodes_of("node_c") == {"node_c"}
    assert feed.nodes_of("ada") == {"node_a", "node_b"}
    assert feed.nodes_of("nobody") == frozenset()


async def test_a_username_is_as_good_as_an_id_and_a_node_that_is_gone_is_nobodys():
    """S14."""
    detail = {"kind": "edge", "name": "attic", "username": "Ada"}
    entries = [
        FeedEntry(1, "node", "node_a", detail | {"owner": "user_a", "state": "active"}),
        FeedEntry(1, "node", "node_b", detail | {"owner": "user_a", "state": "deregistered"}),
    ]
    feed = LedgerFeed(Pages(page(*entries)), lambda *_: None)
    await feed.poll()
    for name in ("Ada", "ada", "user_a", "node_a"):
        assert feed.nodes_of(name) == {"node_a"}
    assert feed.nodes_of("node_b") == feed.nodes_of("attic") == frozenset()


async def test_a_model_costs_what_its_own_price_says_or_else_the_usual_one():
    def price(model, flat):
        detail = {"version": 1, "flat": flat, "prompt_per_million": 2, "completion_per_million": 3, "since": "a newer ledger says more"}
        return FeedEntry(1, "price", model, detail)

    feed = LedgerFeed(Pages(page(price("", 10), price("m", 20)), page(price("m", 30)), page(price("", 40), reset=True)), lambda *_: None)
    with pytest.raises(LedgerUnavailable):
        feed.price_of("m")
    seen = []
    for _ in range(3):
        await feed.poll()
        seen.append((feed.price_of("m").flat, feed.price_of("n").flat))
    assert seen == [(20, 10), (30, 10), (40, 40)]

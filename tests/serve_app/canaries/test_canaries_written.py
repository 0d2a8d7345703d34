"""What canaries ask, and to whom they may go."""

from dataclasses import replace
from random import Random

import pytest

from cluster.audit.rules import WINDOW, rule_of
from cluster.audit.sampling import sampling_of
from cluster.jobs import JobKind
from cluster.nodes import NodeKind
from ledger.client import FeedEntry, FeedPage
from serve_app.canaries.due import to_test
from serve_app.canaries.writing import write, write_embedding, write_long
from serve_app.feed import LedgerFeed
from tests.cluster.builders import model, node, snapshot

DIGEST = "a" * 64
MODEL = replace(model(), digest=DIGEST, is_admitted=False)
NODE = node("node_a", kind=NodeKind.EDGE, models=[MODEL])


def test_canaries_look_unlike_each_other_and_can_all_be_judged():
    made = [write(Random(seed), context_tokens=8192) for seed in range(300)]
    last = [one.request["messages"][-1]["content"] for one in made]
    assert len(set(last)) > 290
    assert {len(one.request["messages"]) for one in made} == {1, 2, 3, 4}
    assert len({one.max_tokens for one in made}) > 30
    assert len({one.request["options"]["temperature"] for one in made}) == 6
    for one in made:
        sampling = sampling_of(one.request)  # raises where no rule could judge
        assert one.max_tokens > WINDOW[rule_of(sampling)] * 1.4  # what repeats itself is not scored
    assert "think" not in made[0].request


def test_the_same_seed_writes_the_same():
    assert write(Random(7), context_tokens=100) == write(Random(7), context_tokens=100)


@pytest.mark.parametrize("size", [100, 5000, 30_000])
def test_a_long_one_has_the_wanted_size(size):
    made = write_long(Random(1), size, context_tokens=8192)
    assert size <= len(made.request["messages"][0]["content"]) < size + 200


def test_small_contexts_thoughts_and_embeddings():
    assert write(Random(1), context_tokens=64).max_tokens == 32
    assert write(Random(1), context_tokens=64, thinks=True).request["think"] is False
    embedding = write_embedding(Random(1), 300)
    assert (embedding.kind, set(embedding.request)) == (JobKind.EMBED, {"input"})


# --- to whom ----------------------------------------------------------------------------------------------------------------------------


async def feed(*entries):
    class Source:
        async def feed(self, after, limit=0):
            return FeedPage(1, True, tuple(FeedEntry(1, *entry) for entry in entries), has_admission=True)

    made = LedgerFeed(Source(), lambda kind, subject: None)
    await made.poll()
    return made


def entry(state, *, is_final=False, digest=DIGEST):
    return "admission", "node_a", {"model": "m", "digest": digest, "state": state, "said": "so", "is_final": is_final}


@pytest.mark.parametrize(
    ("there", "is_due"),
    [
        (NODE, True),
        (replace(NODE, kind=NodeKind.TRUSTED), False),
        (replace(NODE, running=2), False),
        (replace(NODE, is_draining=True), False),
        (replace(NODE, is_healthy=False), False),
        (replace(NODE, models=(replace(MODEL, is_admitted=True),)), False),
        (replace(NODE, models=(replace(MODEL, digest="none"),)), False),
        (replace(NODE, models=(replace(MODEL, fits=False),)), False),
    ],
)
async def test_only_free_edge_nodes_with_models_that_wait_are_tested(there, is_due):
    assert bool(to_test(snapshot(there), await feed())) is is_due


async def test_consumers_come_first():
    served = replace(model("served"), digest=DIGEST)
    both = replace(NODE, models=(MODEL, served))
    known = await feed()
    assert to_test(snapshot(both, waiting={"other": 1}), known)
    assert not to_test(snapshot(both, waiting={"served": 1}), known)
    assert [offer.free for offer in to_test(snapshot(both), known, ["node_a"])] == [1]  # a job goes there just now
    assert not to_test(snapshot(both), known, ["node_a", "node_a"])


async def test_what_is_refused_for_good_is_not_tested_and_other_weights_are():
    assert not to_test(snapshot(NODE), await feed(entry("refused", is_final=True)))
    assert to_test(snapshot(NODE), await feed(entry("refused")))  # for now: the ledger knows when
    assert to_test(snapshot(NODE), await feed(entry("refused", is_final=True, digest="b" * 64)))
    paused = "node", "node_a", {"owner": "user_a", "kind": "edge", "state": "paused"}
    assert not to_test(snapshot(NODE), await feed(paused))


async def test_the_feed_says_what_is_admitted_and_forgets_with_a_new_beginning():
    known = await feed(entry("admitted"))
    assert known.admitted("node_a") == {("m", DIGEST)}
    assert known.admitted("node_b") == frozenset()
    known._take(FeedEntry(2, *entry("refused")))
    assert known.admitted("node_a") == frozenset()
    known.admission_on.clear()
    assert known.admitted("node_a") is None

"""The choice of a node, and the reason for every other one."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.placement import PlacementRequest, choose, refusal
from tests.cluster.builders import model, node, snapshot

ASKED = PlacementRequest(model="m", tokens=1000, capabilities=frozenset({"completion"}), excluded=frozenset({"node_bad"}))


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (node("node_bad"), "it failed this job before"),
        (node(is_healthy=False, reason="the runtime does not answer"), "the runtime does not answer"),
        (node(is_healthy=False), "it is not healthy"),
        (node(is_draining=True), "it is draining"),
        (node(models=[model("other")]), "it does not have m"),
        (node(models=[model(capabilities=("embedding",))]), "its m cannot do completion"),
        (node(models=[model(context=999)]), "its context of 999 tokens is too short"),
        (node(slots=2, running=2), "it is busy"),
        (node(slots=2, running=3), "it is busy"),
        (node(slots=0), "it is busy"),
        (node(models=[model(context=1000)]), None),
    ],
)
def test_each_refusal_says_why(candidate, reason):
    assert refusal(ASKED, candidate) == reason
    choice = choose(ASKED, snapshot(candidate), Random(0))
    assert choice.reasons.get(candidate.id) == reason
    assert (choice.node is None) == (reason is not None)


def test_a_loaded_model_is_preferred_and_the_others_say_so():
    cold = node("node_cold", slots=9, models=[model(is_loaded=False)])
    choice = choose(PlacementRequest(model="m"), snapshot(cold, node("node_warm", slots=2, running=1)), Random(0))
    assert choice.node.id == "node_warm"
    assert choice.reasons == {"node_cold": "it would have to load m first"}


def test_a_cold_node_is_taken_when_no_warm_one_is_free():
    cold = node("node_cold", models=[model(is_loaded=False)])
    assert choose(PlacementRequest(model="m"), snapshot(cold, node("node_warm", slots=1, running=1)), Random(0)).node is cold


def test_of_two_the_freer_one_is_taken():
    busier, freer = node("node_a", slots=4, running=3), node("node_b", slots=4, running=1)
    assert all(choose(PlacementRequest(model="m"), snapshot(busier, freer), Random(seed)).node is freer for seed in range(20))


def test_slots_given_away_since_the_snapshot_count():
    choice = choose(PlacementRequest(model="m"), snapshot(node(slots=2, running=1)), Random(0), taken=["node_a"])
    assert choice.node is None
    assert choice.reasons == {"node_a": "it is busy"}


def test_many_equal_nodes_share_the_work():
    nodes = [node(f"node_{n}", slots=4) for n in range(8)]
    rng = Random(7)
    chosen = {choose(PlacementRequest(model="m"), snapshot(*nodes), rng).node.id for _ in range(200)}
    assert len(chosen) == 8


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.booleans(), st.booleans()), max_size=8), st.randoms())
def test_every_node_is_chosen_or_has_a_reason_and_a_free_one_is_never_missed(shapes, rng):
    nodes = [
        node(f"node_{n}", slots=slots, running=running, is_healthy=healthy, models=[model(is_loaded=loaded)])
        for n, (slots, running, healthy, loaded) in enumerate(shapes)
    ]
    choice = choose(PlacementRequest(model="m"), snapshot(*nodes), rng)
    able = [one for one in nodes if one.is_healthy and one.running < one.slots]
    assert (choice.node in able) if able else (choice.node is None)
    assert set(choice.reasons) == {one.id for one in nodes} - ({choice.node.id} if choice.node else set())

"""The choice of a node, and the reason for every other one."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.nodes import NodeIndex, NodeKind
from cluster.placement import PlacementRequest, choose, explain, refusal
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
    chosen = choose(ASKED, snapshot(candidate), Random(0))
    assert (chosen is None) == (reason is not None)
    if reason:
        assert explain(ASKED, snapshot(candidate)) == {candidate.id: reason}


def test_a_loaded_model_is_preferred_and_the_others_say_so():
    cold = node("node_cold", slots=9, models=[model(is_loaded=False)])
    there = snapshot(cold, node("node_warm", slots=2, running=1))
    assert choose(PlacementRequest(model="m"), there, Random(0)).id == "node_warm"
    assert explain(PlacementRequest(model="m"), there, "node_warm") == {"node_cold": "it would have to load m first"}


def test_a_cold_node_is_taken_when_no_warm_one_is_free():
    cold = node("node_cold", models=[model(is_loaded=False)])
    assert choose(PlacementRequest(model="m"), snapshot(cold, node("node_warm", slots=1, running=1)), Random(0)) is cold


def test_of_two_the_freer_one_is_taken():
    busier, freer = node("node_a", slots=4, running=3), node("node_b", slots=4, running=1)
    assert all(choose(PlacementRequest(model="m"), snapshot(busier, freer), Random(seed)) is freer for seed in range(20))


def test_slots_given_away_since_the_snapshot_count():
    there = snapshot(node(slots=2, running=1))
    assert choose(PlacementRequest(model="m"), there, Random(0), taken=["node_a"]) is None
    assert explain(PlacementRequest(model="m"), there, taken=["node_a"]) == {"node_a": "it is busy"}


def test_many_equal_nodes_share_the_work():
    nodes = [node(f"node_{n}", slots=4) for n in range(8)]
    rng = Random(7)
    chosen = {choose(PlacementRequest(model="m"), snapshot(*nodes), rng).id for _ in range(200)}
    assert len(chosen) == 8


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.booleans(), st.booleans()), max_size=8), st.randoms())
def test_every_node_is_chosen_or_has_a_reason_and_a_free_one_is_never_missed(shapes, rng):
    nodes = [
        node(f"node_{n}", slots=slots, running=running, is_healthy=healthy, models=[model(is_loaded=loaded)])
        for n, (slots, running, healthy, loaded) in enumerate(shapes)
    ]
    there = snapshot(*nodes)
    chosen = choose(PlacementRequest(model="m"), there, rng)
    able = [one for one in nodes if one.is_healthy and one.running < one.slots]
    assert (chosen in able) if able else (chosen is None)
    reasons = explain(PlacementRequest(model="m"), there, chosen.id if chosen else None)
    assert set(reasons) == {one.id for one in nodes} - ({chosen.id} if chosen else set())
    assert all(reasons.values())


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"digest": "sha-other"}, "it has another m"),
        ({"closed": frozenset({"node_a"})}, "it takes no jobs of this consumer"),
        ({"is_trusted_only": True}, "it is not one of the operator's own machines"),
    ],
)
def test_what_a_job_asks_for_beside_its_model_is_kept(asked, reason):
    there = snapshot(replace(node(), kind=NodeKind.EDGE))
    request = PlacementRequest(model="m", **asked)
    assert choose(request, there, Random(0)) is None
    assert explain(request, there) == {"node_a": reason}


@given(st.randoms(), st.integers(17, 400), st.integers(0, 3))
def test_in_a_large_cluster_the_last_free_slot_is_found_and_a_loaded_one_comes_first(rng, count, cold):
    nodes = [node(f"node_{n}", slots=1, running=1) for n in range(count)]
    nodes += [node(f"cold_{n}", slots=1, models=[model(is_loaded=False)]) for n in range(cold)]
    assert (choose(PlacementRequest(model="m"), snapshot(*nodes), rng) is None) == (cold == 0)
    free = replace(nodes[rng.randrange(count)], running=0)
    assert choose(PlacementRequest(model="m"), snapshot(*nodes, free), rng).id == free.id


@given(st.lists(st.tuples(st.integers(0, 5), st.sets(st.tuples(st.sampled_from("abc"), st.booleans())), st.booleans()), max_size=40))
def test_the_index_kept_node_by_node_is_the_one_made_at_once(changes):
    kept, nodes = NodeIndex(), {}
    for number, models, is_gone in changes:
        id_ = f"node_{number}"
        if is_gone:
            kept.drop(id_)
            nodes.pop(id_, None)
        else:
            nodes[id_] = node(id_, models=[model(name, is_loaded=loaded) for name, loaded in dict(models).items()] or [model("x")])
            kept.put(nodes[id_])
    made = NodeIndex(nodes.values())
    for name in "abcx":
        for is_loaded in (True, False):
            assert sorted(kept.offering(name, is_loaded=is_loaded)) == sorted(made.offering(name, is_loaded=is_loaded))
        assert all(kept.model(id_, name) == made.model(id_, name) for id_ in nodes)

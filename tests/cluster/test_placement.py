"""The choice of a node, and the reason for every other one."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.breaker import OPEN_S
from cluster.nodes import NodeIndex, NodeKind
from cluster.placement import EXCLUDED_S, PlacementRequest, choose, explain, refusal
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
        (node(models=[replace(model(is_loaded=False), fits=False)]), "its memory is too small for m"),
        (node(models=[replace(model(), fits=False)]), "its memory is too small for m"),  # loaded, but only in part
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
        ({"broken": frozenset({"node_a"})}, "it failed too often just now"),
        ({"excluded": frozenset({"node_a"})}, "it failed this job before"),
        ({"unfit": frozenset({"node_a"})}, "it cannot take this job"),
        ({"provider": frozenset({"node_b", "node_c"})}, "another provider was asked for"),
        ({"price_cap": 99}, "it costs more than was allowed"),
    ],
)
def test_what_a_job_asks_for_beside_its_model_is_kept(asked, reason):
    there = snapshot(replace(node(), kind=NodeKind.EDGE, price=100))
    request = PlacementRequest(model="m", **asked)
    assert choose(request, there, Random(0)) is None
    assert explain(request, there) == {"node_a": reason}


def test_what_speaks_against_a_node_is_forgotten_after_a_while_of_waiting_but_not_what_it_cannot_do():
    there, one = snapshot(node()), frozenset({"node_a"})
    request = PlacementRequest(model="m", excluded=one, broken=one)
    assert request.after(EXCLUDED_S) is request
    assert request.after(EXCLUDED_S + 1).broken == one
    assert choose(request.after(OPEN_S + 1), there, Random(0)).id == "node_a"
    assert choose(request.pardoning("node_a"), there, Random(0)).id == "node_a"
    assert request.pardoning("node_b") is request
    never = PlacementRequest(model="m", unfit=one, closed=one)
    assert never.after(1e9) is never
    assert never.pardoning("node_a") is never


@settings(deadline=None)  # the machine may be busy
@given(st.randoms(), st.integers(17, 400), st.integers(0, 3))
def test_in_a_large_cluster_the_last_free_slot_is_found_and_a_loaded_one_comes_first(rng, count, cold):
    nodes = [node(f"node_{n}", slots=1, running=1) for n in range(count)]
    nodes += [node(f"cold_{n}", slots=1, models=[model(is_loaded=False)]) for n in range(cold)]
    assert (choose(PlacementRequest(model="m"), snapshot(*nodes), rng) is None) == (cold == 0)
    free = replace(nodes[rng.randrange(count)], running=0)
    assert choose(PlacementRequest(model="m"), snapshot(*nodes, free), rng).id == free.id


def groups_of(index, name):
    return {group.kin: (group.members, sorted(group.with_room)) for group in index.groups(name)}


CHANGES = st.tuples(
    st.integers(0, 5), st.sets(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(1, 2))), st.integers(0, 2), st.booleans()
)


@given(st.lists(CHANGES, max_size=40))
def test_the_index_kept_node_by_node_is_the_one_made_at_once(changes):
    kept, nodes = NodeIndex(), {}
    for number, models, running, is_gone in changes:
        id_ = f"node_{number}"
        if is_gone:
            kept.drop(id_)
            nodes.pop(id_, None)
        else:
            offered = {name: model(name, is_loaded=loaded, context=context) for name, loaded, context in models}
            nodes[id_] = node(id_, models=offered.values() or [model("x")], running=running)
            kept.put(nodes[id_])
    made = NodeIndex(nodes.values())
    for name in "abcx":
        assert groups_of(kept, name) == groups_of(made, name)
        assert kept.offers(name) == made.offers(name)
        assert kept.longest_context(name) == made.longest_context(name)
        assert kept.has_room(name) == made.has_room(name)
    assert set(kept.names()) == set(made.names())


def test_a_price_cap_lets_cheaper_nodes_and_those_at_the_platforms_price_through():
    request = PlacementRequest(model="m", price_cap=99)
    assert refusal(request, replace(node(), price=99)) is None
    assert refusal(request, node()) is None


# --- properties -----------------------------------------------------------------------------------------------------------------------

IDS = [f"node_{n}" for n in range(40)]
MODELS = st.builds(
    lambda digest, context, is_loaded, fits, can, speed: replace(
        model(context=context, is_loaded=is_loaded, capabilities=can), digest=digest, fits=fits, tokens_per_s=speed
    ),
    st.sampled_from("xy"), st.sampled_from([100, 1000]), st.booleans(), st.booleans(), st.sampled_from([("completion",), ("completion", "tools")]),
    st.sampled_from([None, 5.0, 50.0]),
)  # fmt: skip
NODES = st.builds(
    lambda slots, running, offered, kind, state, price, zone: node(
        slots=slots, running=running, models=[offered or model("other")], is_healthy=state != "sick", is_draining=state == "draining", price=price, zone=zone, kind=kind,
    ),
    st.integers(0, 3), st.integers(0, 3), st.none() | MODELS, st.sampled_from(NodeKind), st.sampled_from(["well"] * 4 + ["sick", "draining"]),
    st.sampled_from([None, 10, 100]), st.sampled_from(["", "here", "there"]),
)  # fmt: skip
SETS = st.frozensets(st.sampled_from(IDS), max_size=6)
REQUESTS = st.builds(
    PlacementRequest, model=st.just("m"), tokens=st.sampled_from([0, 500]), digest=st.sampled_from([None, "x"]),
    capabilities=st.sampled_from([frozenset(), frozenset({"tools"})]), excluded=SETS, unfit=SETS, closed=SETS, broken=SETS, is_trusted_only=st.booleans(),
    provider=st.none() | st.frozensets(st.sampled_from(IDS), min_size=1), price_cap=st.sampled_from([None, 50]), zone=st.sampled_from(["", "here"]),
    failures=st.dictionaries(st.sampled_from(IDS), st.integers(1, 4), max_size=4),
)  # fmt: skip


def named(nodes):
    return snapshot(*(replace(one, id=f"node_{n}") for n, one in enumerate(nodes)))


@settings(deadline=None)  # the machine may be busy
@given(REQUESTS, st.lists(NODES, max_size=40), st.dictionaries(st.sampled_from(IDS), st.integers(1, 3), max_size=5), st.randoms())
def test_a_node_that_a_filter_refuses_is_never_chosen_and_an_able_one_never_missed(request, nodes, taken, rng):
    there = named(nodes)
    able = {one.id for one in there.nodes.values() if refusal(request, one, taken.get(one.id, 0)) is None}
    chosen = choose(request, there, rng, taken)
    assert (chosen.id in able) if able else (chosen is None)
    loaded = {id_ for id_ in able if there.nodes[id_].models[0].is_loaded}
    assert chosen is None or not loaded or chosen.id in loaded
    reasons = explain(request, there, chosen.id if chosen else None, taken)
    assert reasons.keys() == there.nodes.keys() - ({chosen.id} if chosen else set())
    for id_, reason in reasons.items():
        assert reason
        assert (reason == refusal(request, there.nodes[id_], taken.get(id_, 0))) == (id_ not in able)


def pair(faster=None, slower=None, **asked):
    """Two nodes, alike but for these changes; tell which of them is chosen, over many seeds."""
    base = node(slots=4, models=[replace(model(), tokens_per_s=20.0, first_token_s=0.5)])
    one, other = (replace(base, id=id_, **(more or {})) for id_, more in (("node_a", faster), ("node_b", slower)))
    there, request = snapshot(one, other), PlacementRequest(model="m", **asked)
    return {choose(request, there, Random(seed)).id for seed in range(30)}


def of_speed(tokens_per_s, first_token_s=0.5):
    return {"models": (replace(model(), tokens_per_s=tokens_per_s, first_token_s=first_token_s),)}


@settings(deadline=None)  # the machine may be busy
@given(st.floats(0.1, 1000), st.floats(1.01, 100), st.integers(0, 3))
def test_of_two_alike_the_faster_one_is_taken(tokens_per_s, times, running):
    busy = {"running": running}
    assert pair(of_speed(tokens_per_s * times) | busy, of_speed(tokens_per_s) | busy) == {"node_a"}


@pytest.mark.parametrize(
    ("better", "worse", "asked"),
    [
        (of_speed(20.0, 0.2), of_speed(20.0, 3.0), {}),
        ({"running": 0}, {"running": 1}, {}),
        ({}, {}, {"failures": {"node_b": 1}}),
        ({"zone": "here"}, {"zone": "there"}, {"zone": "here"}),
        ({"price": 10}, {"price": 20}, {}),
        ({}, of_speed(4.0) | {"running": 0}, {}),
    ],
)
def test_of_two_alike_the_one_with_less_against_it_is_taken(better, worse, asked):
    assert pair(better, worse, **asked) == {"node_a"}


def test_of_two_alike_both_are_taken_in_turn():
    assert pair() == {"node_a", "node_b"}


def test_a_node_whose_speed_nobody_knows_gets_jobs_too():
    assert pair(of_speed(20.0), of_speed(None)) == {"node_a", "node_b"}


def test_a_fast_node_that_is_nearly_full_gives_way_to_an_idle_one_that_is_not_much_slower():
    assert pair(of_speed(30.0, 0.0) | {"running": 3}, of_speed(20.0, 0.0)) == {"node_b"}


def test_the_one_that_is_not_taken_tells_that_another_is_faster():
    there = snapshot(*(node(id_, models=of_speed(speed)["models"]) for id_, speed in (("node_a", 20.0), ("node_b", 10.0))))
    assert explain(PlacementRequest(model="m"), there, "node_a") == {"node_b": "another one was likely to be done sooner"}
    assert explain(PlacementRequest(model="m"), there, "node_b") == {"node_a": "another one was as good"}


@pytest.mark.parametrize("count", [2, 10, 100])
def test_many_jobs_over_equal_nodes_leave_none_far_above_the_mean(count):
    rng, jobs = Random(count), 20 * count
    nodes = {f"node_{n}": node(f"node_{n}", slots=200) for n in range(count)}
    there = snapshot(*nodes.values())
    load = Counter()
    for _ in range(jobs):
        load[choose(PlacementRequest(model="m"), there, rng, load).id] += 1
    assert max(load.values()) <= 20 + 6  # one random choice alone would leave the fullest of a hundred at about 33
    assert min(load.values()) >= 20 - 8


def test_slow_nodes_get_a_part_of_the_work_when_the_fast_ones_are_full():
    rng = Random(5)
    fast = [node(f"fast_{n}", slots=4, models=of_speed(40.0)["models"]) for n in range(4)]
    slow = [node(f"slow_{n}", slots=4, models=of_speed(10.0)["models"]) for n in range(4)]
    there, load = snapshot(*fast, *slow), Counter()
    for _ in range(32):
        load[choose(PlacementRequest(model="m"), there, rng, load).id] += 1
    assert set(load.values()) == {4}
    assert choose(PlacementRequest(model="m"), there, rng, load) is None

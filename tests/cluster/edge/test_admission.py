"""An edge gateway marks which models consumers' jobs may go to; placement, the queue's estimates and the lists know it."""

from dataclasses import replace
from random import Random

from cluster.capacity import Capacity
from cluster.edge.edge_node import EdgeNode
from cluster.edge.facts import NodeFacts
from cluster.edge.protocol import AgentModel, Inventory
from cluster.node_wire import node_line, node_of
from cluster.nodes import NodeKind
from cluster.placement import PlacementRequest, choose, explain, refusal
from tests.cluster.builders import model, node, snapshot

FACTS = NodeFacts(name="n", state="active", tier="verified", key="k", admitted=frozenset({("m", "a" * 64)}))
ASKED = PlacementRequest(model="m", tokens=100)
TESTED = node("node_new", kind=NodeKind.EDGE, models=[replace(model(), is_admitted=False)])
PROVED = node("node_old", kind=NodeKind.EDGE)


def offering(facts, *models):
    changes = []
    one = EdgeNode("node_a", facts, lambda: changes.append(1), lambda mirror: None)
    one.take_inventory(
        Inventory(
            runtime="ollama", slots=2, models=[AgentModel(name=name, digest="d", weights_sha256=digest, ctx=100) for name, digest in models]
        )
    )
    return one


def admitted(one):
    return [(model.name, model.is_admitted) for model in one.record.models]


def test_a_model_is_admitted_by_its_name_and_weights():
    one = offering(FACTS, ("m", "a" * 64), ("other", "a" * 64))
    assert admitted(one) == [("m", True), ("other", False)]
    assert admitted(offering(FACTS, ("m", "b" * 64))) == [("m", False)]
    assert admitted(offering(replace(FACTS, admitted=None), ("m", "b" * 64))) == [("m", True)]


def test_what_the_ledger_says_later_is_told_at_once():
    one = offering(FACTS, ("m", "b" * 64))
    one.take_facts(replace(FACTS, admitted=frozenset({("m", "b" * 64)})), 0.0)
    assert admitted(one) == [("m", True)]


def test_it_crosses_the_node_protocol():
    import json

    assert node_of(json.loads(node_line(TESTED))["node"]) == TESTED


def test_no_job_goes_to_a_model_that_is_tested_and_the_reason_is_told():
    both = snapshot(TESTED, PROVED)
    assert refusal(ASKED, TESTED) == "it is not admitted for m yet"
    assert {choose(ASKED, both, Random(n)).id for n in range(20)} == {"node_old"}
    assert choose(ASKED, snapshot(TESTED), Random(0)) is None
    assert explain(ASKED, both, "node_old")["node_new"] == "it is not admitted for m yet"


def test_nobody_waits_for_it_and_nobody_is_told_of_it():
    alone, both = snapshot(TESTED), snapshot(TESTED, PROVED)
    assert (alone.models(), list(alone.index.names()), alone.index.longest_context("m"), alone.index.has_room("m")) == ({}, [], 0, False)
    assert ([one.id for one in both.models()["m"]], both.index.longest_context("m"), both.index.has_room("m")) == (["node_old"], 8192, True)
    assert Capacity.of(alone.index.admitted("m"), alone.nodes).slots == 0
    assert Capacity.of(both.index.admitted("m"), both.nodes).slots == 2

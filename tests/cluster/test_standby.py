"""Which standby nodes run: a day of a small fleet, second by second, and each rule by itself."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.nodes import NodeKind
from cluster.queue import FairQueue, Waiting
from cluster.standby import GROW_AFTER_S, START_LIMIT_S, Standby, StandbyState
from tests.cluster.builders import model, node, wait

NAMES = ["node_s1", "node_s2", "node_s3"]
START_S = 120
IDLE_S = 600


class Fleet:
    """A node that is always there, and standby nodes that come so long after they are wanted and obey at once."""

    def __init__(self, *, slots=2, start_s=START_S, names=NAMES, models=("m",)):
        self.slots, self.start_s, self.names, self.models = slots, start_s, names, models
        self.standby = Standby(IDLE_S)
        self.nodes = {"node_a": node("node_a", slots=slots)}
        self.coming = {}
        self.now = 0.0
        self.demand = 0  # jobs that want a slot at once
        self.waits_since = None
        self.drained_busy = []

    @property
    def wanted(self):
        return sorted(self.standby.wanted)

    def state(self, name):
        return self.standby.states[name]

    def run(self, seconds, demand=None):
        self.demand = self.demand if demand is None else demand
        for _ in range(seconds):
            self.now += 1
            self.start_and_end()
            lines = self.place()
            orders = self.standby.look(self.names, self.nodes, lines, self.now)
            for one in orders.drain:
                self.nodes[one.id] = replace(self.nodes[one.id], is_draining=True)
            for one in orders.resume:
                self.nodes[one.id] = replace(self.nodes[one.id], is_draining=False)
        return self

    def start_and_end(self):
        for name in self.wanted:
            if name not in self.nodes and self.now - self.coming.setdefault(name, self.now) >= self.start_s:
                self.nodes[name] = node(name, slots=self.slots, models=[model(one) for one in self.models])
        for name in [name for name in self.nodes if name in self.names and name not in self.wanted]:
            self.drained_busy += [name] if self.nodes[name].running else []
            del self.nodes[name]
        self.coming = {name: since for name, since in self.coming.items() if name in self.wanted and name not in self.nodes}

    def place(self):
        left = self.demand
        for id_, one in self.nodes.items():
            running = min(left, one.slots if not one.is_draining else min(one.running, one.slots))
            self.nodes[id_] = replace(one, running=running)
            left -= running
        self.waits_since = None if not left else self.waits_since if self.waits_since is not None else self.now
        return {"m": Waiting(left, self.now - self.waits_since)} if left else {}


def test_a_burst_that_passes_starts_nothing():
    fleet = Fleet().run(60, demand=2)
    assert fleet.run(int(GROW_AFTER_S) - 1, demand=20).wanted == []
    assert fleet.run(600, demand=2).wanted == []


def test_as_many_start_as_hold_what_waits_and_one_after_the_other_leaves_when_the_rest_suffices():
    fleet = Fleet().run(30, demand=6)
    assert fleet.wanted == NAMES[:2], "four wait, each takes two"
    assert fleet.run(START_S - 20).wanted == NAMES[:2], "those that are coming are waited for"
    assert fleet.run(60).place() == {}
    fleet.run(IDLE_S - 30, demand=1)
    assert fleet.wanted == NAMES[:2]
    fleet.run(60)
    assert len(fleet.wanted) == 1
    fleet.run(IDLE_S + 60)
    assert (fleet.wanted, list(fleet.nodes)) == ([], ["node_a"])
    assert not fleet.drained_busy


def test_what_the_others_are_filled_by_keeps_a_node():
    fleet = Fleet().run(START_S + 60, demand=3)
    assert fleet.wanted == NAMES[:1]
    assert fleet.run(3 * IDLE_S, demand=2).wanted == NAMES[:1], "the one that is always there would be full"
    assert fleet.run(IDLE_S + 60, demand=1).wanted == []


def test_one_that_is_leaving_stays_when_jobs_wait_again():
    fleet = Fleet().run(START_S + 60, demand=4)
    fleet.nodes["node_s1"] = replace(fleet.nodes["node_s1"], running=1)
    fleet.standby._wanted["node_s1"].is_leaving = True
    fleet.run(1)
    assert (fleet.nodes["node_s1"].is_draining, fleet.state("node_s1")) == (True, StandbyState.LEAVING)
    fleet.run(int(GROW_AFTER_S) + 5, demand=8)
    assert not fleet.nodes["node_s1"].is_draining
    assert fleet.state("node_s1") is StandbyState.RUNNING


def test_a_node_is_not_let_go_before_its_last_job_has_ended():
    standby, busy = Standby(IDLE_S), node("node_s1", running=1)
    fleet = {"node_a": node("node_a", slots=8), "node_s1": busy}
    standby.find(["node_s1"], 0)
    standby.look(NAMES, fleet, {}, 0)
    [told] = standby.look(NAMES, fleet, {}, IDLE_S).drain
    assert told is busy
    assert standby.look(NAMES, fleet, {}, IDLE_S + 1).drain == (busy,), "said again until it does"
    fleet["node_s1"] = replace(busy, is_draining=True)
    assert standby.look(NAMES, fleet, {}, IDLE_S + 600).drain == ()
    assert "node_s1" in standby.wanted
    fleet["node_s1"] = replace(busy, is_draining=True, running=0)
    standby.look(NAMES, fleet, {}, IDLE_S + 601)
    assert not standby.wanted


def test_the_only_node_with_a_model_stays():
    standby = Standby(IDLE_S)
    standby.find(["node_s1"], 0)
    rare = {"node_a": node("node_a", slots=8), "node_s1": node("node_s1", models=[model("m"), model("rare")])}
    for now in range(0, 3 * IDLE_S, 10):
        assert standby.look(NAMES, rare, {}, now).drain == ()
    rare["node_b"] = node("node_b", models=[model("rare")])
    for now in range(0, IDLE_S + 20, 10):
        told = standby.look(NAMES, rare, {}, 2000 + now).drain
    assert [one.id for one in told] == ["node_s1"]


def test_a_node_without_the_model_is_started_once():
    fleet = Fleet(models=("other",), names=NAMES[:1]).run(START_S + 60, demand=4)
    assert fleet.wanted == NAMES[:1]
    fleet.nodes["node_b"] = node("node_b", models=[model("other")])
    fleet.run(IDLE_S + 60, demand=0)
    assert fleet.wanted == []
    del fleet.nodes["node_b"]
    assert fleet.run(600, demand=20).wanted == []


def test_one_that_does_not_come_is_told_and_another_starts():
    fleet = Fleet(start_s=10**6, names=NAMES[:2]).run(60, demand=4)
    assert (fleet.wanted, fleet.state("node_s1")) == (NAMES[:1], StandbyState.COMING)
    fleet.run(int(START_LIMIT_S))
    assert (fleet.wanted, fleet.state("node_s1"), fleet.state("node_s2")) == (NAMES[:2], StandbyState.LATE, StandbyState.COMING)
    assert fleet.run(int(START_LIMIT_S), demand=0).wanted == [], "nobody waits any more"


def test_one_that_dies_is_wanted_still():
    fleet = Fleet().run(START_S + 60, demand=4)
    del fleet.nodes["node_s1"]
    fleet.run(10)
    assert (fleet.wanted, fleet.state("node_s1")) == (NAMES[:1], StandbyState.COMING)
    assert fleet.run(START_S).state("node_s1") is StandbyState.RUNNING


def test_what_an_operator_drained_is_not_resumed_and_not_let_go():
    fleet = Fleet().run(START_S + 60, demand=4)
    fleet.nodes["node_s1"] = replace(fleet.nodes["node_s1"], is_draining=True, running=0)
    fleet.run(2 * IDLE_S, demand=1)
    assert (fleet.wanted, fleet.nodes["node_s1"].is_draining) == (NAMES[:1], True)


def test_a_node_that_comes_drained_takes_jobs_again():
    standby = Standby(IDLE_S)
    standby.look(NAMES, {"node_a": node("node_a", running=2)}, {"m": Waiting(2, GROW_AFTER_S)}, 0)
    assert list(standby.wanted) == NAMES[:1]
    drained = node("node_s1", is_draining=True)
    assert standby.look(NAMES, {"node_s1": drained}, {}, 5).resume == (drained,)
    assert standby.look(NAMES, {"node_s1": node("node_s1")}, {}, 6).resume == ()
    assert standby.look(NAMES, {"node_s1": drained}, {}, 7).resume == (), "by its operator, since"


def test_a_new_dispatcher_takes_over_what_runs_and_what_was_leaving():
    standby = Standby(IDLE_S)
    standby.find(["node_s1", "node_s2"], 0)
    leaving = node("node_s2", is_draining=True, running=1)
    standby.look(NAMES, {"node_s1": replace(node("node_s1"), is_healthy=False)}, {}, 1)
    standby.look(NAMES, {"node_a": node("node_a"), "node_s1": node("node_s1"), "node_s2": leaving}, {}, 2)
    assert standby.states == {"node_s1": StandbyState.RUNNING, "node_s2": StandbyState.LEAVING, "node_s3": StandbyState.OFF}
    standby.look(NAMES, {"node_s1": node("node_s1"), "node_s2": replace(leaving, running=0)}, {}, 3)
    assert list(standby.wanted) == ["node_s1"]


def test_what_is_on_the_list_no_more_is_not_wanted():
    fleet = Fleet().run(60, demand=6)
    fleet.names = NAMES[1:]
    assert fleet.run(1).wanted == NAMES[1:], "and the next starts in its place"


def test_one_that_runs_and_is_on_the_list_no_more_ends_its_jobs_first():
    standby, busy = Standby(IDLE_S), node("node_s1", running=1)
    standby.find(["node_s1"], 0)
    for now in (0, 1):
        assert standby.look(NAMES[1:], {"node_s1": busy}, {}, now).drain == (busy,)
    assert (list(standby.wanted), standby.requested) == (["node_s1"], [])
    assert standby.look(NAMES, {"node_s1": replace(busy, is_draining=True)}, {}, 2).resume == ()
    standby.look(NAMES[1:], {"node_s1": replace(busy, is_draining=True, running=0)}, {}, 3)
    assert not standby.wanted


def test_edge_nodes_help_out_too():
    standby = Standby(IDLE_S)
    standby.find(["node_s1"], 0)
    there = {"node_s1": node("node_s1"), "node_e": node("node_e", slots=8, kind=NodeKind.EDGE)}
    told = [standby.look(NAMES, there, {}, now).drain for now in (0, IDLE_S)][-1]
    assert [one.id for one in told] == ["node_s1"]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 900), st.integers(0, 12)), min_size=1, max_size=6), st.integers(1, 200), st.integers(1, 4))
def test_whatever_is_asked_for_jobs_get_slots_and_nobody_is_cut_off(phases, start_s, slots):
    fleet = Fleet(slots=slots, start_s=start_s)
    for seconds, demand in phases:
        fleet.run(seconds, demand=demand)
        assert set(fleet.wanted) <= set(NAMES)
    fleet.run(int(GROW_AFTER_S) + 4 * start_s + 20, demand=4 * slots)
    assert fleet.place() == {}, "all four nodes are here in time"
    fleet.run(4 * (IDLE_S + 20), demand=0)
    assert fleet.wanted == []
    assert not fleet.drained_busy


def test_the_queue_tells_how_long_each_line_has_waited():
    queue = FairQueue()
    for job, at, of in (("one", 10, "m"), ("two", 12, "m"), ("three", 13, "other")):
        queue.add(wait(job, model=of, is_async=True), 1, at)
    assert queue.lines(15) == {"m": Waiting(2, 5), "other": Waiting(1, 2)}
    queue.put_back(wait("four"), 14)  # before the others, and it came last
    assert queue.lines(15)["m"] == Waiting(3, 5)
    assert queue.oldest_s(15) == pytest.approx(5)
    assert FairQueue().oldest_s(15) == 0

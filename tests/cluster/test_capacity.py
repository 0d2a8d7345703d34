"""How many jobs the cluster can run, and how long one takes."""

from dataclasses import replace

from cluster.capacity import Capacity
from cluster.nodes import NodeIndex
from cluster.queue import JOB_S
from tests.cluster.builders import model, node


def capacity(*nodes):
    return Capacity.of(NodeIndex(nodes).offers("m"), {one.id: one for one in nodes})


def takes(seconds):
    return [replace(model(), job_s=seconds)]


def test_slots_count_where_jobs_are_taken_whether_they_are_busy_or_not():
    nodes = [
        node("node_a", slots=2, running=2),
        node("node_b", slots=3),
        node("node_c", slots=5, is_draining=True),
        node("node_d", slots=7, is_healthy=False),
        node("node_e", slots=11, models=[model("other")]),
    ]
    assert capacity(*nodes) == Capacity(5, JOB_S)


def test_a_fast_node_takes_more_jobs_and_so_counts_for_more():
    both = capacity(node("node_a", slots=2, models=takes(1.0)), node("node_b", slots=2, models=takes(3.0)))
    assert both == Capacity(4, 1.5)  # eight jobs in three seconds


def test_where_nothing_was_learned_a_usual_length_is_assumed():
    assert capacity(node("node_a", slots=1), node("node_b", slots=1, models=takes(JOB_S))) == Capacity(2, JOB_S)
    assert capacity() == Capacity(0, JOB_S)

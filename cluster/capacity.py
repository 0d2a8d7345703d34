"""How many jobs of a model the cluster can run at once, and how long one takes. Pure; what waits are estimated from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from cluster.nodes import Node, OfferedModel
from cluster.queue import JOB_S


@dataclass(frozen=True, slots=True)
class Capacity:
    """`slots` of the nodes that take jobs; `job_s`: the time that a job takes one of them, in seconds."""

    slots: int
    job_s: float

    @classmethod
    def of(cls, offers: Mapping[str, OfferedModel], nodes: Mapping[str, Node]) -> Self:
        """Sum up the nodes that have a model: slower ones get fewer of its jobs."""
        slots, jobs_per_s = 0, 0.0
        for id_, offer in offers.items():
            node = nodes[id_]
            if node.is_healthy and not node.is_draining:
                slots += node.slots
                jobs_per_s += node.slots / (offer.job_s or JOB_S)
        return cls(slots, slots / jobs_per_s if jobs_per_s else JOB_S)

"""Workers of the trusted nodes: one actor per Ray node that carries our label, pinned there."""

import asyncio
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.connect import NAMESPACE
from cluster.worker_actor import WorkerActor, WorkerSettings

NODE_LABEL = "gfe.io/node"
NAME_LABEL = "gfe.io/name"
CALL_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class RayNode:
    """A living Ray node that is one of our nodes."""

    id: str
    name: str
    ray_id: str


async def list_nodes() -> list[RayNode]:
    """List the living Ray nodes that carry our label."""
    found: list[dict[str, Any]] = await asyncio.to_thread(ray.nodes)
    nodes = []
    for one in found:
        labels = one.get("Labels") or {}
        if one.get("Alive") and NODE_LABEL in labels:
            nodes.append(RayNode(labels[NODE_LABEL], labels.get(NAME_LABEL, labels[NODE_LABEL]), one["NodeID"]))
    return nodes


async def worker_url(node: RayNode, settings: WorkerSettings) -> str:
    """Get or create the node's worker and ask where it serves.

    Creation of an actor on a node that is gone fails at once; on one that is frozen it waits, hence the limit.

    Raises:
        TimeoutError: The worker does not answer.
        ray.exceptions.RayError: It cannot be created, or is restarting.
    """
    actor: Any = WorkerActor  # Ray wraps the class
    worker = actor.options(
        name=f"worker:{node.id}",
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.ray_id, soft=False),
    ).remote(node.id, node.name, settings)
    return str(await asyncio.wait_for(_result(worker.url.remote()), CALL_LIMIT_S))


async def forget_worker(node: RayNode) -> None:
    """End the worker of a node that is gone."""

    def kill() -> None:
        ray.kill(ray.get_actor(f"worker:{node.id}", namespace=NAMESPACE), no_restart=True)

    try:
        await asyncio.to_thread(kill)
    except (ValueError, ray.exceptions.RayError):
        return


async def _result(reference: Any) -> Any:
    return await reference

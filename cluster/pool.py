"""Workers of the trusted nodes: one actor per Ray node that carries our label, pinned there."""

import asyncio
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.connect import NAMESPACE
from cluster.worker_actor import WorkerActor
from cluster.worker_settings import WorkerSettings

NODE_LABEL = "gfe.io/node"
NAME_LABEL = "gfe.io/name"
CREATE_LIMIT_S = 30.0
CALL_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class RayNode:
    """A living Ray node that is one of our nodes."""

    id: str
    name: str
    ray_id: str


async def list_nodes() -> list[RayNode]:
    """List the living Ray nodes that carry our label."""
    found = []
    for one in await _ray_nodes():
        labels = one.get("Labels") or {}
        if one.get("Alive") and labels.get(NODE_LABEL):
            found.append(RayNode(labels[NODE_LABEL], labels.get(NAME_LABEL, labels[NODE_LABEL]), one["NodeID"]))
    return found


async def _ray_nodes() -> list[dict[str, Any]]:
    async with asyncio.timeout(CALL_LIMIT_S):
        return await asyncio.to_thread(ray.nodes)


async def worker_url(node: RayNode, settings: WorkerSettings) -> str:
    """Get or create the node's worker and ask where it serves.

    Creation of an actor on a node that is gone fails at once; on one that is frozen it waits, hence the limits.

    Raises:
        TimeoutError: The worker does not answer.
        ray.exceptions.RayError: It cannot be created, or is restarting.
    """
    async with asyncio.timeout(CREATE_LIMIT_S):
        worker = await asyncio.to_thread(_get_or_create, node, settings)
    async with asyncio.timeout(CALL_LIMIT_S):
        return str(await worker.url.remote())


def _get_or_create(node: RayNode, settings: WorkerSettings) -> Any:
    actor: Any = WorkerActor  # Ray wraps the class
    return actor.options(
        name=worker_name(node.id),
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.ray_id, soft=False),
    ).remote(node.id, node.name, settings)


def worker_name(node_id: str) -> str:
    """Tell the actor's name."""
    return f"worker:{node_id}"


async def retire_worker(node: RayNode) -> None:
    """End the worker of a node that died, so that its name is free when the node comes back.

    Only when Ray says that it is dead: after a restart of the head the list may be empty for a moment, and its workers live.
    """
    if not any(one["NodeID"] == node.ray_id and not one.get("Alive") for one in await _ray_nodes()):
        return

    def kill() -> None:
        ray.kill(ray.get_actor(worker_name(node.id), namespace=NAMESPACE), no_restart=True)

    try:
        async with asyncio.timeout(CALL_LIMIT_S):
            await asyncio.to_thread(kill)
    except (ValueError, ray.exceptions.RayError, TimeoutError):
        return  # Ray ended it before

"""Workers of the trusted nodes: one actor per Ray node that carries our label, pinned there."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.connect import NAMESPACE
from cluster.worker_actor import WorkerActor
from cluster.worker_settings import WorkerSettings

NODE_LABEL = "gfe.io/node"
NAME_LABEL = "gfe.io/name"
STANDBY = "standby"  # a resource, 1 on each standby node: Ray's autoscaler is asked for it, and a worker's part in it keeps the node
CREATE_LIMIT_S = 30.0
CALL_LIMIT_S = 30.0
LEAVE_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class RayNode:
    """A living Ray node that is one of our nodes. `stands_by`: Ray's autoscaler starts and ends it (`cluster/standby.py`)."""

    id: str
    name: str
    ray_id: str
    stands_by: bool = False


async def list_nodes() -> list[RayNode]:
    """List the living Ray nodes that carry our label."""
    found = []
    for one in await _ray_nodes():
        labels = one.get("Labels") or {}
        if one.get("Alive") and labels.get(NODE_LABEL):
            stands_by = bool((one.get("Resources") or {}).get(STANDBY))
            found.append(RayNode(labels[NODE_LABEL], labels.get(NAME_LABEL, labels[NODE_LABEL]), one["NodeID"], stands_by))
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
        resources={STANDBY: 0.001} if node.stands_by else {},  # nobody ends a node of which something is in use
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.ray_id, soft=False),
    ).remote(node.id, node.name, settings)


def worker_name(node_id: str) -> str:
    """Tell the actor's name."""
    return f"worker:{node_id}"


async def retire_worker(node: RayNode) -> None:
    """End the worker of a node that died, so that its name is free when the node comes back.

    Only when Ray says that it is dead: after a restart of the head the list may be empty for a moment, and its workers live.
    """
    if any(one["NodeID"] == node.ray_id and not one.get("Alive") for one in await _ray_nodes()):
        await _end(node, is_polite=False)


async def end_worker(node: RayNode) -> None:
    """End the worker of a node that was drained, so that its machine may end."""
    await _end(node, is_polite=True)


async def _end(node: RayNode, *, is_polite: bool) -> None:
    try:
        async with asyncio.timeout(CALL_LIMIT_S):
            worker = await asyncio.to_thread(ray.get_actor, worker_name(node.id), namespace=NAMESPACE)
            if is_polite:
                with suppress(ray.exceptions.RayError, TimeoutError):
                    async with asyncio.timeout(LEAVE_LIMIT_S):
                        await worker.leave.remote()
            await asyncio.to_thread(ray.kill, worker, no_restart=True)
    except (ValueError, ray.exceptions.RayError, TimeoutError):
        return  # Ray ended it before


async def request_standby(ids: Sequence[str]) -> None:
    """Tell Ray's autoscaler all the standby nodes that are to run: it starts those that do not, and ends what is idle and not among them."""
    from ray.autoscaler.sdk import request_resources  # noqa: PLC0415 - 4 MiB, where there are standby nodes

    selectors = [{NODE_LABEL: id_} for id_ in ids]
    async with asyncio.timeout(CALL_LIMIT_S):
        await asyncio.to_thread(request_resources, bundles=[{STANDBY: 1} for _ in ids], bundle_label_selectors=selectors)

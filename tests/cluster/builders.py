"""Nodes, models and waits with plain defaults."""

from cluster.nodes import Node, NodeKind, OfferedModel, Snapshot
from cluster.placement import PlacementRequest
from cluster.queue import Wait


def model(name="m", *, context=8192, is_loaded=True, capabilities=("completion",)):
    return OfferedModel(
        name=name, digest=f"sha-{name}", size_bytes=1, context_tokens=context, is_loaded=is_loaded, capabilities=capabilities
    )


def node(id_="node_a", *, slots=2, running=0, models=None, kind=NodeKind.TRUSTED, **more):
    return Node(
        id=id_,
        name=id_,
        kind=kind,
        url=f"http://{id_}",
        slots=slots,
        running=running,
        models=tuple(models or (model(),)),
        **more,
    )


def snapshot(*nodes, waiting=None):
    return Snapshot.of(1, {one.id: one for one in nodes}, waiting)


def wait(job, consumer="user_a", *, model="m", tokens=100, excluded=frozenset(), capabilities=frozenset(), **more):
    request = PlacementRequest(model=model, tokens=tokens, excluded=excluded, capabilities=capabilities)
    return Wait(job=job, consumer=consumer, request=request, **more)

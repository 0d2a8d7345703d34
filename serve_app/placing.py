"""What placement is told of a job, and whether anybody offers its model at all."""

import time
from difflib import get_close_matches

from cluster.errors import ModelUnavailable
from cluster.nodes import Node, Snapshot
from cluster.placement import PlacementRequest, choose
from ledger.client import Caller
from serve_app.context import ServeContext
from serve_app.job import JobRequest

NEAREST_NAMES = 3


def placement_of(
    context: ServeContext, asked: JobRequest, caller: Caller, excluded: frozenset[str] = frozenset(), weights: str | None = None
) -> PlacementRequest:
    """Tell what placement must know; `weights`: the digest that a node must have to go on with an answer."""
    return PlacementRequest(
        model=asked.model, tokens=asked.max_tokens, digest=weights, capabilities=asked.capabilities, excluded=excluded,
        closed=context.feed.closed_to(caller.user) | context.breakers.open(time.monotonic()), is_trusted_only=caller.privacy == "trusted",
    )  # fmt: skip


def require_model(name: str, snapshot: Snapshot) -> int:
    """Check that somebody offers a model; answer the longest context that it has anywhere.

    Raises:
        ModelUnavailable: Nobody does; with the nearest known names.
    """
    offered = list(snapshot.index.offers(name).values())
    if not offered:
        raise ModelUnavailable(name, tuple(get_close_matches(name, sorted(snapshot.models()), NEAREST_NAMES, 0.3)))
    return max(model.context_tokens for model in offered)


def place(context: ServeContext, wanted: PlacementRequest) -> Node | None:
    """Choose a node at once, unless somebody already waits for this model."""
    snapshot = context.view.snapshot
    if snapshot.waiting.get(wanted.model):
        return None
    return choose(wanted, snapshot, context.rng, context.view.taken)

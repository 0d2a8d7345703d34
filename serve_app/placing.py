"""What placement is told of a job, and whether anybody offers its model at all."""

import time
from difflib import get_close_matches

from cluster.errors import ModelUnavailable, NobodyOnline
from cluster.nodes import Node, Snapshot
from cluster.placement import PlacementRequest, choose
from ledger.client import Caller
from serve_app.catalog import Catalog, CatalogMode
from serve_app.context import ServeContext
from serve_app.job import JobRequest

NEAREST_NAMES = 3


def placement_of(
    context: ServeContext,
    asked: JobRequest,
    caller: Caller,
    *,
    excluded: frozenset[str] = frozenset(),
    unfit: frozenset[str] = frozenset(),
    weights: str | None = None,
) -> PlacementRequest:
    """Tell what placement must know; `weights`: the digest that a node must have to go on with an answer."""
    now = time.monotonic()
    return PlacementRequest(
        model=asked.model, tokens=asked.max_tokens, digest=weights or context.feed.catalog.digest_of(asked.model), capabilities=asked.capabilities,
        excluded=excluded, unfit=unfit, closed=context.feed.closed_to(caller.user), broken=context.breakers.open(now),
        is_trusted_only=caller.privacy == "trusted", zone=context.settings.zone, failures=context.breakers.recent_failures(now),
        provider=None if asked.provider is None else context.feed.nodes_of(asked.provider),
    )  # fmt: skip


def require_model(name: str, snapshot: Snapshot, catalog: Catalog) -> int:
    """Check that somebody offers a model that may be offered; answer the longest context that it has anywhere.

    Raises:
        ModelUnavailable: Nobody does; with the nearest known names.
        NobodyOnline: There is no node at all.
    """
    index = snapshot.index
    if catalog.mode is CatalogMode.OPEN:
        longest = index.longest_context(name)
    else:
        longest = max((model.context_tokens for model in index.admitted(name).values() if catalog.offers(name, model.digest)), default=0)
    if not longest and not snapshot.nodes:
        raise NobodyOnline(name, ())
    if not longest:
        raise ModelUnavailable(name, tuple(get_close_matches(name, sorted(filter(catalog.allows, index.names())), NEAREST_NAMES, 0.3)))
    return longest


async def require_awaited(context: ServeContext, name: str) -> int | None:
    """Check that somebody offers a model or is likely to soon: a job that runs by itself waits for them. Answers its longest context.

    None: nobody offers it now. It may come where the catalog lists it, where it is the default, or where jobs of it ended well of late.

    Raises:
        ModelUnavailable: There is no such model; with the nearest known names.
        DatabaseUnavailable: Nobody can say whether it ran of late.
    """
    try:
        return require_model(name, context.view.snapshot, context.feed.catalog)
    except ModelUnavailable:
        catalog = context.feed.catalog
        is_listed = name in catalog.digests or name == context.settings.default_model
        if not catalog.allows(name) or not (is_listed or await context.counts.has_run(name)):
            raise
        return None


def place(context: ServeContext, wanted: PlacementRequest) -> Node | None:
    """Choose a node at once, unless somebody already waits for this model."""
    snapshot = context.view.snapshot
    if snapshot.waiting.get(wanted.model):
        return None
    return choose(wanted, snapshot, context.rng, context.view.taken)

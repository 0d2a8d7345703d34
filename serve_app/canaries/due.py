"""Which models on edge nodes may need a canary now. Pure."""

import re
from collections import Counter
from collections.abc import Iterable

from cluster.nodes import Node, NodeKind, OfferedModel, Snapshot
from ledger.client import CanaryOffer
from serve_app.feed import LedgerFeed

DIGEST = re.compile(r"(sha256:)?[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether a claim names weights."""
    return DIGEST.fullmatch(text) is not None


def to_test(snapshot: Snapshot, feed: LedgerFeed, taken: Iterable[str] = ()) -> list[CanaryOffer]:
    """List the models that wait for their admission, on nodes with a free slot that no consumer waits for."""
    given = Counter(taken)
    found = []
    for node in snapshot.nodes.values():
        free = node.free - given[node.id]
        if node.kind is not NodeKind.EDGE or not node.has_room or free <= 0 or not feed.is_open(node.id) or _is_wanted(node, snapshot):
            continue
        found += [
            CanaryOffer(node=node.id, model=model.name, digest=model.digest, slots=node.slots, free=free)
            for model in node.models
            if _is_due(node, model, feed)
        ]
    return found


def _is_wanted(node: Node, snapshot: Snapshot) -> bool:
    """Whether a consumer waits for what a node serves."""
    return any(snapshot.waiting.get(model.name) for model in node.models if model.is_admitted)


def _is_due(node: Node, model: OfferedModel, feed: LedgerFeed) -> bool:
    """Whether a model may need a canary; the ledger knows."""
    if model.is_admitted or not model.fits or not is_digest(model.digest) or not feed.catalog.offers(model.name, model.digest):
        return False
    known = feed.admission(node.id, model.name, model.digest)
    return known is None or not known.is_final

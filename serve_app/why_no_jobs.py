"""Why a node gets no jobs, for its owner: a sentence for each thing that keeps every job away, and one for each model. Pure."""

from collections.abc import Callable
from typing import Any

from cluster.nodes import Node, OfferedModel, Snapshot
from serve_app.canaries.due import is_digest
from serve_app.catalog import Catalog
from serve_app.feed import ACTIVE, ADMITTED, AdmissionFact, NodeFact

MOST_MODELS = 50
STATES = {
    "paused": "It is paused: resume it in the console, or with `PATCH /api/core/nodes/<id>/`.",
    "quarantined": "It is in quarantine: what was found, in audits or about its counts, stands in the console, and an appeal is open to you.",
    "revoked": "Its credential was revoked: enroll its agent again with a new code.",
    "banned": "It is banned: what was found in audits stands in the console, and an appeal is open to you.",
}


def why_no_jobs(node: Node | None, fact: NodeFact, *, is_broken: bool) -> list[str]:
    """Tell what keeps every job away from a node; empty: nothing does. `is_broken`: too many attempts failed there just now."""
    found = [] if fact.state == ACTIVE else [STATES.get(fact.state, f"It is {fact.state}.")]
    if node is None or not node.url:
        return [*found, "It is not connected: see on its machine whether its agent runs and reaches the platform (`gfe agent status`)."]
    if not node.is_healthy:
        found.append(f"It is not healthy: {node.reason or 'it does not say why'}.")
    if node.is_draining:
        found.append(f"It takes no new jobs: {node.reason or 'it is draining'}.")
    if is_broken:
        found.append("Too many attempts failed there just now: in a moment one job tries whether it is well again.")
    if not node.slots:
        found.append("It offers no slot.")
    elif not node.free:
        found.append(f"All its slots are in use: {node.running} of {node.slots}.")
    if not node.models:
        found.append("It offers no model: pull one on its machine.")
    return found


Admission = Callable[[str, str], AdmissionFact | None]  # what the ledger says of a model with these weights; None: nothing yet


def why_models(id_: str, snapshot: Snapshot, catalog: Catalog, admission: Admission) -> list[dict[str, Any]]:
    """Tell of each model of a node whether jobs of it may go there, and what is asked of it now."""
    node = snapshot.nodes.get(id_)
    if node is None:
        return []
    found = []
    for model in node.models[:MOST_MODELS]:
        known = admission(model.name, model.digest)
        why_not = _why_not(model, catalog) or _why_not_admitted(model, known)
        said = f"{known.said} " if known else ""
        found.append({"model": model.name, "offered": why_not is None, "why": why_not or said + _demand(id_, model.name, snapshot)})
    return found


def _why_not(model: OfferedModel, catalog: Catalog) -> str | None:
    """Tell why no job of a model may go to a node, whatever the node is doing now."""
    if not catalog.allows(model.name):
        return "The platform offers the models of its catalog alone, and this is none of them."
    if not catalog.offers(model.name, model.digest):
        return "It is not the one of the platform's catalog, its digest is another: pull it again."
    return None if model.fits else model.trouble or "The machine's memory is too small for it."


def _why_not_admitted(model: OfferedModel, known: AdmissionFact | None) -> str | None:
    """Tell why a model of an edge node is not admitted."""
    if model.is_admitted:
        return None
    if not is_digest(model.digest):
        return "The machine does not tell the digest of its weights, so that it cannot be tested."
    return (
        known.said if known and known.state != ADMITTED else "It is to be tested before consumers' jobs come here; that begins in a moment."
    )


def _demand(id_: str, model: str, snapshot: Snapshot) -> str:
    """Tell who else offers a model, and whether anybody waits for it."""
    others = [other for other in snapshot.index.admitted(model) if other != id_]
    free = sum(snapshot.nodes[other].has_room for other in others)
    waiting = snapshot.waiting.get(model, 0)
    if waiting:
        return f"{waiting} job{'s wait' if waiting != 1 else ' waits'} for it now."
    if not others:
        return "Nobody waits for it; no other node offers it, so jobs come here when somebody asks for it."
    verb = "offers" if len(others) == 1 else "offer"
    return f"Nobody waits for it; {len(others)} other node{'s' if len(others) != 1 else ''} {verb} it, {free} of them with a free slot: jobs are spread over all."

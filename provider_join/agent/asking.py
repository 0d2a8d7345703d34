"""What of an offer reaches the runtime: known fields only, so that no request moves the owner's models or reads the machine. Pure."""

from collections.abc import Mapping
from typing import Any

from cluster.edge.protocol import Offer, delivered_events
from cluster.jobs import Attempt, Deadlines, JobKind

OPTIONS = frozenset({
    "temperature", "top_k", "top_p", "min_p", "typical_p", "seed", "stop", "repeat_penalty", "repeat_last_n", "presence_penalty",
    "frequency_penalty", "num_keep",
})  # fmt: skip
EVERY = frozenset({"format", "think", "options", "logprobs", "top_logprobs"})
FIELDS = {
    JobKind.CHAT: EVERY | {"messages", "tools"},
    JobKind.GENERATE: EVERY | {"prompt", "suffix", "system", "raw", "template", "images"},
    JobKind.EMBED: frozenset({"input", "dimensions"}),
}


def allowed(kind: JobKind, request: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what a request may say. What would load a model anew for everybody (`num_ctx`, `keep_alive`, …) is not among it."""
    kept = {name: value for name, value in request.items() if name in FIELDS[kind]}
    options = kept.get("options")
    if options is not None:
        kept["options"] = {name: value for name, value in options.items() if name in OPTIONS} if isinstance(options, Mapping) else {}
    return kept


def attempt_of(offer: Offer, node: str) -> Attempt:
    """Read an offer as the attempt that the worker takes.

    Raises:
        ValueError: What it says was delivered is none.
    """
    deadline = offer.deadline
    return Attempt(
        job=offer.job, number=offer.lease, node=node, kind=offer.kind, model=offer.model, model_digest=offer.model_digest,
        request=allowed(offer.kind, offer.request), max_tokens=offer.max_tokens,
        deadlines=Deadlines(first_token_s=deadline.first_token, idle_s=deadline.idle, total_s=deadline.total),
        delivered=delivered_events(offer.delivered),
    )  # fmt: skip

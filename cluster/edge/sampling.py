"""What is asked of an edge node is said in full: an audit can judge an answer only if it knows how every token was chosen. Pure."""

import uuid
from collections.abc import Mapping
from typing import Any

from cluster.jobs import JobKind
from cluster.runtime.dialect import DEFAULT_OPTIONS

NAMES = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n", "presence_penalty", "frequency_penalty")


def explicit(kind: JobKind, request: Mapping[str, Any], job: uuid.UUID) -> dict[str, Any]:
    """Write what the consumer left open: Ollama's defaults, and a seed that is the same in every attempt of the job."""
    if kind is JobKind.EMBED:
        return dict(request)
    given = {name: value for name, value in (request.get("options") or {}).items() if value is not None}
    defaults = {name: DEFAULT_OPTIONS[name] for name in NAMES} | {"seed": seed_of(job)}
    return {**request, "options": defaults | given}


def seed_of(job: uuid.UUID) -> int:
    """Draw a job's seed from the random part of its id; 31 bits."""
    return int.from_bytes(job.bytes[-4:], "big") & 0x7FFFFFFF

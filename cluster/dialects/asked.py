"""What a request asks, whatever language it came in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.jobs import JobKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, checked. `request` is in the form of Ollama's own API, without `model` and `stream` (see `cluster.jobs.Attempt`).

    `model` None: the default one; `max_tokens` None: as many as usual. `forced`: the names of the functions of which one must be called
    (`cluster/dialects/forced.py`). `echo`: what the answer repeats of the request or must know of it.
    """

    kind: JobKind
    model: str | None
    request: dict[str, Any]
    max_tokens: int | None = None
    capabilities: frozenset[str] = frozenset({"completion"})
    wants_stream: bool = False
    includes_usage: bool = False
    forced: tuple[str, ...] = ()
    echo: Mapping[str, Any] = field(default_factory=dict)

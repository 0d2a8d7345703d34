"""Who is there: nodes, what they offer, and the snapshot that replicas place by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class NodeKind(StrEnum):
    """Whose machine it is: the operator's (joined through Ray) or anybody's (an agent that dials out)."""

    TRUSTED = "trusted"
    EDGE = "edge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One device. None: the driver cannot say."""

    uuid: str
    name: str
    total_bytes: int
    free_bytes: int
    driver: str | None = None
    compute_capability: str | None = None
    utilization_percent: int | None = None
    temperature_c: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedModel:
    """A model that a node has. `digest` is the sha256 of the GGUF, `context_tokens` what one slot can hold."""

    name: str
    digest: str
    size_bytes: int
    context_tokens: int
    is_loaded: bool
    capabilities: tuple[str, ...] = ("completion",)
    has_tokenizer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One provider machine as the cluster sees it now. `url` is where it serves the node protocol."""

    id: str
    name: str
    kind: NodeKind
    url: str
    slots: int
    running: int
    models: tuple[OfferedModel, ...]
    gpus: tuple[Gpu, ...] = ()
    runtime: str = ""
    admitted: int = 0  # attempts taken since the node started: tells which tickets were used
    is_healthy: bool = True
    is_draining: bool = False
    reason: str = ""  # why it is unhealthy or draining, one sentence

    @property
    def free(self) -> int:
        """Count the slots that nobody uses."""
        return max(0, self.slots - self.running)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All nodes at one version of the Dispatcher's view; `waiting` counts queued jobs per model."""

    version: int
    nodes: Mapping[str, Node] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)

    def models(self) -> dict[str, list[Node]]:
        """List the offered models and the nodes that have each."""
        offered: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            for model in node.models:
                offered.setdefault(model.name, []).append(node)
        return offered

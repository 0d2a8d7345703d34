"""What the platform knows of an edge node and its agent from the ledger, and what follows from it. Pure."""

from dataclasses import dataclass

PROBATION = "probation"
PROBATION_SLOTS = 2
ACTIVE = "active"
MAY_CONNECT = frozenset({ACTIVE, "paused", "quarantined"})  # the others' agents are cut


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What the feed says of a node. `key`: the thumbprint of its agent's key (RFC 7638), `public_key` the key itself, 32 raw bytes."""

    name: str
    state: str
    tier: str
    key: str | None
    public_key: bytes | None = None

    @property
    def may_connect(self) -> bool:
        """Whether its agent may be connected at all."""
        return self.state in MAY_CONNECT

    @property
    def slot_cap(self) -> int | None:
        """How many jobs at once it may get; None: as many as it declares."""
        return PROBATION_SLOTS if self.tier == PROBATION else None


@dataclass(frozen=True, slots=True)
class AgentClaims:
    """What an agent's token says. `key`: the thumbprint of the key that it is bound to; `left_s`: how long it is good, in seconds from now."""

    node: str
    key: str
    left_s: float


class InvalidAgentToken(Exception):
    """A token is none of the ledger's, for somebody else, or expired."""

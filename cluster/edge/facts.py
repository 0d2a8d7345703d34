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
    admitted: frozenset[tuple[str, str]] | None = None  # models with the digests of their weights that get consumers' jobs; None: every one

    @property
    def may_connect(self) -> bool:
        """Whether its agent may be connected at all."""
        return self.state in MAY_CONNECT

    def admits(self, model: str, digest: str) -> bool:
        """Whether consumers' jobs for a model with these weights may go there."""
        return self.admitted is None or (model, digest) in self.admitted

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

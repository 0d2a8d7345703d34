"""How a node stands, told to its agent: what it is and why, what was found, what it earned, what may keep jobs away."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ledger.db import Connection
from ledger.errors import AgentRevoked, CredentialUnknown
from ledger.identity.agent_proofs import thumbprint
from ledger.identity.nodes import State
from ledger.money import accounts
from ledger.verification import records
from ledger.verification.admissions import Admission
from ledger.verification.escrows import Escrow, escrows

MOST_MODELS_SAID = 20
CUT = frozenset({"revoked", "deregistered"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """A node as the ledger knows it. `escrow`: None where nothing waits."""

    node: str
    person: uuid.UUID
    name: str
    state: State
    state_reason: str | None
    tier: str
    strikes: int
    escrow: Escrow | None


async def status_of(connection: Connection, claims: dict[str, Any], fixed: timedelta | None) -> NodeStatus:
    """Tell how the node of an agent's token stands.

    Raises:
        CredentialUnknown: The token is bound to another key than the node's.
        AgentRevoked: The node is cut.
    """
    cursor = await connection.execute(
        "SELECT n.id, n.person_id, n.name, n.state, n.state_reason, n.tier, n.public_key, p.blocked_at IS NOT NULL "
        "FROM ledger.node n JOIN ledger.person p ON p.id = n.person_id WHERE n.id = %s",
        [str(claims["sub"])],
    )
    row = await cursor.fetchone()
    if row is None:
        raise CredentialUnknown
    node, person, name, state, reason, tier, key, is_blocked = row
    if state in CUT or key is None or is_blocked:
        raise AgentRevoked(state, reason)
    if (claims.get("cnf") or {}).get("jkt") != thumbprint(key):
        raise CredentialUnknown
    waiting = await escrows(connection, [accounts.pending(person, node)], fixed)
    return NodeStatus(
        node=node, person=person, name=name, state=state, state_reason=reason, tier=tier,
        strikes=(await records.read_record(connection, node)).strikes, escrow=waiting[0] if waiting else None,
    )  # fmt: skip


def reasons(one: NodeStatus, models: Sequence[Admission]) -> list[str]:
    """Tell in sentences what keeps jobs away and state, tier and strikes do not say by themselves."""
    found = [f"The platform says: {one.state_reason}"] if one.state_reason else []
    return found + [f"{model.model}: {model.said}" for model in models if model.state != "admitted"][:MOST_MODELS_SAID]

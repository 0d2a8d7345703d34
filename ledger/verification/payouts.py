"""When a node's earnings may leave its escrow: after the delay of its tier, and not while it is in quarantine or banned."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from ledger.db import Connection
from ledger.verification.rules import PAYOUT_DELAY

STOPPED = frozenset({"quarantined", "banned"})
UNKNOWN = PAYOUT_DELAY["verified"]  # of earnings from before each node had an escrow of its own
TRUSTED = PAYOUT_DELAY["established"]


def payout_terms(fixed: timedelta | None) -> Callable[[Connection, str], Awaitable[timedelta | None]]:
    """Make the terms of pay-outs; `fixed` is everybody's delay, None: by tier."""

    async def terms(connection: Connection, node: str) -> timedelta | None:
        # The lock is a verdict's too: what a ban forfeits cannot be released at the same moment.
        cursor = await connection.execute("SELECT kind, tier, state FROM ledger.node WHERE id = %s FOR SHARE", [node])
        row = await cursor.fetchone()
        kind, tier, state = row or ("", "", "")
        if state in STOPPED:
            return None
        if fixed is not None:
            return fixed
        if not kind:
            return UNKNOWN
        return TRUSTED if kind == "trusted" else PAYOUT_DELAY[tier]

    return terms

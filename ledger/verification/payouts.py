"""When a node's earnings may leave its escrow: after the delay of its tier, and not while it is in quarantine or banned."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import cast

from ledger.db import Connection
from ledger.verification.rules import PAYOUT_DELAY, Tier

STOPPED = frozenset({"quarantined", "banned"})
UNKNOWN = PAYOUT_DELAY["verified"]  # of earnings from before each node had an escrow of its own
TRUSTED = PAYOUT_DELAY["established"]


def payout_terms(fixed: timedelta | None) -> Callable[[Connection, str], Awaitable[timedelta | None]]:
    """Make the terms of pay-outs; `fixed` is everybody's delay, None: by tier."""

    async def terms(connection: Connection, node: str) -> timedelta | None:
        # The lock is a verdict's too: what a ban forfeits cannot be released at the same moment.
        cursor = await connection.execute("SELECT kind, tier, state FROM ledger.node WHERE id = %s FOR SHARE", [node])
        row = await cursor.fetchone()
        return delay_of(fixed, *(row or ("", "", "")))

    return terms


def delay_of(fixed: timedelta | None, kind: str, tier: str, state: str) -> timedelta | None:
    """Tell how long the earnings of a node wait, by what it is now; None: nothing leaves. Without a kind: of no known node."""
    if state in STOPPED:
        return None
    if fixed is not None:
        return fixed
    if not kind:
        return UNKNOWN
    return TRUSTED if kind == "trusted" else PAYOUT_DELAY[cast("Tier", tier)]

"""What a ban does to money: consumers of flagged jobs get theirs back, and what the node had not been paid out is forfeited."""

from uuid import UUID

from ledger.db import Connection
from ledger.verification.standing import Locked


async def forfeit(connection: Connection, node: Locked) -> None:
    """Refund the flagged jobs of a node, then take what is left of its escrow."""


async def refund_job(connection: Connection, node: Locked, job: UUID) -> None:
    """Give the consumer of a flagged job back what it cost."""

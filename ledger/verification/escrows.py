"""What waits in the escrows of nodes, and until when: read by providers and by their agents."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from ledger.db import Connection
from ledger.money import accounts
from ledger.verification.payouts import delay_of

# From what is not released yet, the oldest entry and the newest one.
_ESCROWS = """
SELECT coalesce(n.id, ''), coalesce(n.name, ''), a.posted - a.held, coalesce(n.kind, ''), coalesce(n.tier, ''), coalesce(n.state, ''),
       (SELECT t.at FROM ledger.entry e JOIN ledger.txn t ON t.id = e.txn_id WHERE e.account_id = a.id AND e.seq > coalesce(m.seq, 0) AND e.amount > 0
         ORDER BY e.seq LIMIT 1),
       (SELECT t.at FROM ledger.entry e JOIN ledger.txn t ON t.id = e.txn_id WHERE e.account_id = a.id AND e.seq > coalesce(m.seq, 0) AND e.amount > 0
         ORDER BY e.seq DESC LIMIT 1)
  FROM ledger.account a LEFT JOIN ledger.release_mark m ON m.account_id = a.id
  LEFT JOIN ledger.node n ON n.id = substring(a.address FROM '^provider:[^:]+:pending:(.+)$')
 WHERE a.address = ANY (%s) AND a.posted > 0 ORDER BY a.id"""


@dataclass(frozen=True, slots=True)
class Escrow:
    """What a node earned and may not be withdrawn yet, in micro-credits. Released from `first_at` on, all of it at `last_at`; None: not now.

    Without a node: from before each had an escrow of its own.
    """

    node: str
    name: str
    held: int
    first_at: datetime | None
    last_at: datetime | None


async def escrows(connection: Connection, addresses: list[str], fixed: timedelta | None) -> list[Escrow]:
    """Tell what waits on these accounts; `fixed` is everybody's delay, None: by tier."""
    found = []
    for node, name, held, kind, tier, state, first, last in await (await connection.execute(_ESCROWS, [addresses])).fetchall():
        delay = delay_of(fixed, kind, tier, state)
        found.append(Escrow(node, name, int(held), _after(first, delay), _after(last, delay)))
    return found


async def escrows_of(connection: Connection, person: uuid.UUID, fixed: timedelta | None) -> list[Escrow]:
    """Tell what waits of all of a provider's nodes."""
    return await escrows(connection, await accounts.open_pendings(connection, person), fixed)


def _after(at: datetime | None, delay: timedelta | None) -> datetime | None:
    return None if at is None or delay is None else at + delay

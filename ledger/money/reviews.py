"""Accounts that an audit found wrong: nothing new is held on them, by no process, until the same audit finds them right."""

from collections.abc import Iterable

from ledger.db import Connection
from ledger.money.audit import Finding


def accounts_in(findings: Iterable[Finding]) -> frozenset[str]:
    """Name the accounts that broken rules name first; a rule about something else names none."""
    return frozenset(row[0] for found in findings if not found.is_held for row in found.violations if isinstance(row[0], str))


async def note(connection: Connection, audit: str, addresses: frozenset[str]) -> None:
    """Write down what an audit found wrong now, in place of what it had found before."""
    async with connection.transaction():
        await connection.execute("DELETE FROM ledger.under_review WHERE audit = %s AND NOT address = ANY (%s)", [audit, list(addresses)])
        await connection.execute(
            "INSERT INTO ledger.under_review (audit, address) SELECT %s, unnest(%s::text[]) ON CONFLICT DO NOTHING",
            [audit, list(addresses)],
        )


async def read(connection: Connection) -> frozenset[str]:
    """Read the accounts under review."""
    cursor = await connection.execute("SELECT DISTINCT address FROM ledger.under_review")
    return frozenset(str(row[0]) for row in await cursor.fetchall())

"""The chart of accounts: addresses, their units and floors, and their ids (looked up once; they never change)."""

import re
import uuid
from collections.abc import Iterable

from ledger.db import Connection, Database

CREDIT, ALLOWANCE, OPEN_JOB = 1, 2, 3

PROMOTIONS = "platform:promotions"
FEES = "platform:fees"
GOODWILL = "platform:goodwill"
SLOT_ISSUER = "issuer:slots"
ALLOWANCES = "issuer:allowances"

_SHARED = re.compile(r"^(platform|world|issuer|clearing):")
_BOTTOMLESS = re.compile(r"^(world:.*|issuer:.*|platform:promotions|platform:goodwill)$")


def promo(user: uuid.UUID) -> str:
    """Promotional credits: spent first, never withdrawable."""
    return f"consumer:{user}:promo"


def paid(user: uuid.UUID) -> str:
    """Deposited credits."""
    return f"consumer:{user}:paid"


def pending(user: uuid.UUID, node: str) -> str:
    """What a node earned before the pay-out delay: its escrow, so that a node answers for what it did and for nothing else."""
    return f"{_pending_of(user)}:{node}"


def _pending_of(user: uuid.UUID) -> str:
    """Where the earnings of all nodes waited before each had an escrow of its own."""
    return f"provider:{user}:pending"


async def open_pendings(connection: Connection, user: uuid.UUID) -> list[str]:
    """Name the accounts of earnings before the pay-out delay that a provider has, the oldest first."""
    cursor = await connection.execute(
        "SELECT address FROM ledger.account WHERE starts_with(address, 'provider:') "
        'AND address COLLATE "C" >= %(first)s AND address COLLATE "C" < %(first)s || \';\' ORDER BY id',  # `;` follows `:`
        {"first": _pending_of(user)},
    )
    return [str(address) for (address,) in await cursor.fetchall()]


def forfeited(node: str) -> str:
    """What a banned node forfeited: consumers of jobs that are found out later get theirs from it, and an appeal gives it back."""
    return f"platform:forfeited:{node}"


def earned(user: uuid.UUID) -> str:
    """Earnings that can be withdrawn."""
    return f"provider:{user}:earned"


def slots(user: uuid.UUID) -> str:
    """Open jobs that the user may still have."""
    return f"slots:{user}"


def unit_of(address: str) -> int:
    """Tell what an account counts."""
    if address.startswith("budget:") or address == ALLOWANCES:
        return ALLOWANCE
    if address.startswith("slots:") or address == SLOT_ISSUER:
        return OPEN_JOB
    return CREDIT


class AccountIds:
    """Ids of accounts by address; an account is opened when it is first asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ids: dict[str, int] = {}

    async def of(self, addresses: Iterable[str]) -> dict[str, int]:
        """Answer the ids of accounts, all of them known or opened now, in one statement.

        Raises:
            DatabaseUnavailable: The database does not answer.
        """
        wanted = list(dict.fromkeys(addresses))
        missing = [address for address in wanted if address not in self._ids]
        if missing:

            async def open_them(connection: Connection) -> None:
                self._ids.update(await open_accounts(connection, missing))

            await self._database.run(open_them)
        return {address: self._ids[address] for address in wanted}


async def open_accounts(connection: Connection, addresses: list[str]) -> dict[str, int]:
    """Open what is not there yet; answer ids by address."""
    cursor = await connection.execute(
        "SELECT address, id FROM ledger.open_accounts(%b::text[], %b::smallint[], %b::bigint[], %b::boolean[])",
        (
            addresses,
            [unit_of(address) for address in addresses],
            [None if _BOTTOMLESS.match(address) else 0 for address in addresses],
            [bool(_SHARED.match(address)) for address in addresses],
        ),
    )
    return {str(address): int(id_) for address, id_ in await cursor.fetchall()}

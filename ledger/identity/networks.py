"""How many nodes on probation may come from one network: whoever makes many accounts seldom has many networks (security reference 6.3)."""

import ipaddress

from ledger.db import Connection
from ledger.errors import NetworkFull

PREFIX = {4: 24, 6: 48}
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::/64"))
COUNTED_DAYS = 30  # a node that its agent left for longer counts no more


def network_of(address: str | None) -> str | None:
    """Tell the network that an address counts with, an IPv4 /24 or an IPv6 /48; None: this machine, or no address. Pure.

    `address` is as limits count it: an IPv4 address, or the /64 of an IPv6 one.
    """
    try:
        found = ipaddress.ip_interface(address or "")
    except ValueError:
        return None
    if any(found.ip in own for own in LOOPBACK):
        return None
    return str(ipaddress.ip_network((found.ip, PREFIX[found.version]), strict=False))


async def require_room(connection: Connection, network: str, most: int) -> None:
    """Let one more node in from a network; whoever enrolls from it at the same moment waits until the transaction ends.

    Raises:
        NetworkFull: So many are on probation there already, of whichever owners.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"nodes of {network}"])
    cursor = await connection.execute(
        "SELECT count(*) FROM ledger.node WHERE network = %s::cidr AND tier = 'probation' AND state <> 'deregistered' "
        "AND coalesce(last_seen_at, created_at) > clock_timestamp() - make_interval(days => %s)",
        [network, COUNTED_DAYS],
    )
    row = await cursor.fetchone()
    assert row is not None
    if row[0] >= most:
        raise NetworkFull(network, most)

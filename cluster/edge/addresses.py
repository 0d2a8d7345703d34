"""Whose connection it is, as limits count it: the address it comes from, or the one that a proxy of ours vouches for. Pure.

The same rule as that of the ledger's public app (`GFE_TRUSTED_PROXIES`, `address_of` in `ledger/api/callers.py`), which this package may not
import; `tests/serve_app/test_addresses.py` holds both to the same table.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
UNKNOWN = "unknown"
MAX_HOPS = 16  # proxies one behind the other
_HOST_BITS = 64  # of an IPv6 address: whoever has one has all of them


def networks_of(text: str) -> tuple[Network, ...]:
    """Read networks and addresses that are joined by commas.

    Raises:
        ValueError: One is none.
    """
    return tuple(ip_network(one.strip()) for one in text.split(",") if one.strip())


def client_of(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Name who is connected: the right-most address that no trusted proxy has, read from the connection back through `X-Forwarded-For`.

    `forwarded` are the values of that header in their order. Each proxy writes at the end whom it heard, so what stands left of the first
    address that is not trusted may be anybody's invention. What is no address counts as the proxy's own that passed it on.
    """
    client = _address(peer or "")
    if client is None:
        return UNKNOWN
    hops = [one for value in forwarded for one in value.split(",")]
    for hop in reversed(hops[-MAX_HOPS:]):
        if not any(client in network for network in trusted):
            break
        before = _address(hop.strip())
        if before is None:
            break
        client = before
    return _name(client)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address, with or without a port; one of IPv4 in IPv6's clothes is what it is."""
    if text.startswith("["):
        text = text[1:].partition("]")[0] if "]" in text else ""
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return found if isinstance(found, IPv4Address) else found.ipv4_mapped or found


def _name(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return f"{IPv6Address(int(address) >> _HOST_BITS << _HOST_BITS)}/{_HOST_BITS}"

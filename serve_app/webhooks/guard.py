"""Where a webhook may go: the guard against requests that a consumer would have us send into our own network (SSRF).

What is decided here is pure; looking a name up is not, and is in `serve_app/webhooks/lookup.py`. Both together are asked when a URL is kept
and again at each delivery, which then connects to the very addresses that were looked at.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from yarl import URL

from cluster.errors import InvalidRequest
from serve_app.settings import ServeSettings

Address = IPv4Address | IPv6Address

PORTS = frozenset({443, 8443})
_NAME = re.compile(r"(?=.{1,253}\.?$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?")
_ENDS_IN_A_NUMBER = re.compile(r"(^|\.)(\d+|0x[0-9a-f]*)\.?$")  # the old forms of an IPv4 address that a resolver would still read
_UNSEEN = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\ufeff]")

_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL6 = IPv6Network("2000::/3")
_NOT_GLOBAL4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
        "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # a cloud's own services, at an address that looks public
    )
)  # fmt: skip
# Inside 2000::/3: protocol assignments with Teredo, documentation, and 6to4, which carries any IPv4 address.
_NOT_GLOBAL6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"))
_PRIVATE: tuple[IPv4Network | IPv6Network, ...] = (
    *(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    IPv6Network("fd00::/8"),
)  # fmt: skip
_METADATA = frozenset({IPv6Address("fd00:ec2::254")})


@dataclass(frozen=True, slots=True)
class Policy:
    """What an installation allows beside public addresses: its own loopback (development), its private networks (the operator says so)."""

    allows_loopback: bool = False
    allows_private: bool = False
    longest_url: int = 2000

    @classmethod
    def of(cls, settings: ServeSettings) -> "Policy":
        """Read it from the settings."""
        return cls(settings.env == "dev", settings.webhook_allow_private, settings.webhook_url_length)

    @property
    def is_strict(self) -> bool:
        """Only the public internet, over TLS."""
        return not (self.allows_loopback or self.allows_private)


def required_url(text: str, policy: Policy) -> URL:
    """Read a URL and check all that can be known without a lookup; the answer is in one form, whatever was written.

    Raises:
        InvalidRequest: It may not be a webhook's; says why.
    """
    if len(text) > policy.longest_url:
        raise _refused(f"it is longer than {policy.longest_url} characters")
    if _UNSEEN.search(text):
        raise _refused("it contains spaces or control characters")
    try:
        url = URL(text)
        port = url.port
    except (ValueError, UnicodeError) as wrong:
        raise _refused("it is not a valid URL") from wrong
    if url.scheme != "https" and (url.scheme != "http" or policy.is_strict):
        raise _refused("it must begin with https://")
    if url.raw_user is not None or url.raw_password is not None:
        raise _refused("it must not contain a user or a password")
    if url.fragment:
        raise _refused("it must not contain a fragment (#…)")
    if policy.is_strict and port not in PORTS:
        raise _refused(f"its port must be one of {', '.join(map(str, sorted(PORTS)))}")
    if not port:
        raise _refused("its port is not valid")
    address = _literal(url.raw_host or "")
    if address is not None:
        require_address(url, address, policy)
    return url


def _literal(host: str) -> Address | None:
    """Read a host that is an address; None: it is a name. A name that any resolver could take for an address is none."""
    if ":" not in host and not _ENDS_IN_A_NUMBER.search(host):
        if not _NAME.fullmatch(host):
            raise _refused("its host is not a valid name")
        return None
    try:
        address = ip_address(host)
    except ValueError as wrong:
        raise _refused("its host is neither a name nor an address in the usual form") from wrong
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise _refused("its host is an address of one link only")
    return address


def require_address(url: URL, address: Address, policy: Policy) -> None:
    """Check an address that a URL leads to.

    Raises:
        InvalidRequest: We do not send there. The address is not repeated: what our resolver sees is not the caller's business.
    """
    inner = embedded(address)
    if policy.allows_loopback and inner.is_loopback:
        return
    if policy.allows_private and (inner.is_loopback or is_private(inner)):
        return
    if not is_global(address):
        raise _refused("its host is or leads to an address that is not public")
    if url.scheme != "https":
        raise _refused("it must begin with https://")
    if url.port not in PORTS:
        raise _refused(f"its port must be one of {', '.join(map(str, sorted(PORTS)))}")


def is_global(address: Address) -> bool:
    """Tell whether an address is one of the public internet, in whichever form it is written."""
    inner = embedded(address)
    if isinstance(inner, IPv4Address):
        return inner.is_global and not any(inner in network for network in _NOT_GLOBAL4)
    return inner.is_global and inner in _GLOBAL6 and not any(inner in network for network in _NOT_GLOBAL6)


def is_private(address: Address) -> bool:
    """Tell whether an address is of a private network; never a link's own, a cloud's metadata, or nobody's."""
    return address not in _METADATA and any(address.version == network.version and address in network for network in _PRIVATE)


def embedded(address: Address) -> Address:
    """Name the IPv4 address that an IPv6 one stands for (mapped, NAT64), or the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"This URL cannot be a webhook's: {why}.", "url")

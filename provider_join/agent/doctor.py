"""Checks before an agent connects: the first that fails says what is missing and what mends it."""

import fcntl
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

from provider_join.errors import NotFit

CONNECT_LIMIT_S = 0.5
ADDRESS_OF_INTERFACE = 0x8915  # SIOCGIFADDR of Linux
ELSEWHERE = ("192.0.2.1", 9)  # of no machine; nothing is sent there, the kernel only names the way
Tell = Callable[[str], None]


def own_addresses() -> list[str]:
    """List this machine's addresses that others could reach."""
    found: set[str] = set()
    with suppress(OSError), closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.connect(ELSEWHERE)
        found.add(probe.getsockname()[0])
    with suppress(OSError):
        found |= {str(one[4][0]).partition("%")[0] for one in socket.getaddrinfo(socket.gethostname(), None)}
    found |= set(_of_interfaces())
    return sorted(one for one in found if not ip_address(one).is_loopback and not ip_address(one).is_unspecified)


def _of_interfaces() -> Iterable[str]:
    with suppress(OSError), closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                said = fcntl.ioctl(probe.fileno(), ADDRESS_OF_INTERFACE, struct.pack("256s", name.encode()[:15]))
                yield socket.inet_ntoa(said[20:24])


def answers(address: str, port: int) -> bool:
    """Tell whether a server listens there."""
    try:
        with closing(socket.create_connection((address, port), CONNECT_LIMIT_S)):
            return True
    except OSError:
        return False


def require_private(runtime_url: str, addresses: Iterable[str]) -> None:
    """Check that nobody else in the network reaches the runtime: it asks nobody who they are (CVE-2026-7482 and what comes after it).

    Raises:
        NotFit: Somebody could.
    """
    port = urlsplit(runtime_url).port or 80
    if open_at := next((address for address in addresses if answers(address, port)), None):
        raise NotFit(
            f"Ollama answers at {open_at}:{port}: everybody in that network can use it, and delete its models",
            "let it listen on this machine alone: OLLAMA_HOST=127.0.0.1:11434, then start it again",
        )


def check(runtime_url: str | None, tell: Tell) -> None:
    """Check this machine; tell what was found.

    Raises:
        NotFit: It lacks something.
    """
    if runtime_url is None:
        tell("no Ollama answers here: the embedded runtime")
        return
    require_private(runtime_url, own_addresses())
    tell(f"Ollama at {runtime_url}, which only this machine reaches")

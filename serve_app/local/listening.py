"""What the processes of an installation listen on, as the kernel tells it (proc(5): `/proc/net/tcp`, `/proc/<pid>/fd`)."""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Listening:
    """One listening socket and a process that holds it."""

    address: str
    port: int
    pid: int

    @property
    def is_loopback(self) -> bool:
        """Tell whether this machine alone reaches it."""
        found = ipaddress.ip_address(self.address)
        return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def listening(pids: Iterable[int]) -> set[Listening]:
    """Every listening TCP socket that one of these processes has open; one that ends meanwhile has none."""
    found = set()
    for pid in pids:
        inodes = set(_inodes(pid))
        for name in ("tcp", "tcp6"):
            for address, port, inode in _table(Path(f"/proc/{pid}/net/{name}")):
                if inode in inodes:
                    found.add(Listening(address, port, pid))
    return found


def _inodes(pid: int) -> Iterator[str]:
    try:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            if match := re.fullmatch(r"socket:\[(\d+)\]", str(path.readlink())):
                yield match[1]
    except OSError:
        return


def _table(path: Path) -> Iterator[tuple[str, int, str]]:
    try:
        lines = path.read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if fields[3] == LISTEN:
            address, port = fields[1].split(":")
            words = bytes.fromhex(address)
            packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))  # each word in the machine's order
            yield str(ipaddress.ip_address(packed)), int(port, 16), fields[9]

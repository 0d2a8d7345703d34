"""The memory of this machine that nobody uses."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

MEMINFO = Path("/proc/meminfo")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def available_bytes(meminfo: str) -> int | None:
    """Read how much memory programs can have without swapping from the text of /proc/meminfo; None: it does not say."""
    try:
        return next(int(line.split()[1]) * 1024 for line in meminfo.splitlines() if line.startswith("MemAvailable:"))
    except (ValueError, IndexError, StopIteration):
        return None


def free_bytes(meminfo: Path = MEMINFO) -> int | None:
    """Tell how many bytes programs can have without swapping; None where Linux is not there to say."""
    try:
        return available_bytes(meminfo.read_text())
    except OSError:
        return None


def reader_beside(runtime_url: str) -> Callable[[], int | None]:
    """Choose what tells the memory that a runtime has: this machine, when the runtime is on it."""
    return free_bytes if urlsplit(runtime_url).hostname in LOOPBACK else lambda: None

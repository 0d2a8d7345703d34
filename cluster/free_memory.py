"""The memory of this machine that nobody uses."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

MEMINFO = Path("/proc/meminfo")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def free_bytes(meminfo: Path = MEMINFO) -> int | None:
    """Tell how many bytes programs can have without swapping; None where Linux is not there to say."""
    try:
        lines = meminfo.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def reader_beside(runtime_url: str) -> Callable[[], int | None]:
    """Choose what tells the memory that a runtime has: this machine, when the runtime is on it."""
    return free_bytes if urlsplit(runtime_url).hostname in LOOPBACK else lambda: None

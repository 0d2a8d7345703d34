"""What must be true of a machine before anything is started; each refusal is one sentence and one hint, and leaves nothing behind."""

import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.free_memory import available_bytes
from cluster.processes import PROC
from cluster.runtime.child import missing_cpu_flags
from serve_app.local.errors import Refused

MINIMUM_PYTHON = (3, 11)
MINIMUM_MEMORY_BYTES = 3 * 2**30


def require_memory(meminfo: str) -> None:
    """Refuse below 3 GiB.

    Raises:
        Refused: There is too little memory.
    """
    available = available_bytes(meminfo)
    if available is not None and available < MINIMUM_MEMORY_BYTES:
        raise Refused(
            f"only {available / 2**30:.1f} GiB of memory is available, at least {MINIMUM_MEMORY_BYTES / 2**30:.0f} GiB is needed",
            "close other programs, or use a larger machine",
        )


def require_python(version: tuple[int, int]) -> None:
    """Refuse an older Python.

    Raises:
        Refused: It is too old.
    """
    if version < MINIMUM_PYTHON:
        raise Refused(
            f"this is Python {version[0]}.{version[1]}, at least {MINIMUM_PYTHON[0]}.{MINIMUM_PYTHON[1]} is needed",
            "set GFE_PYTHON to a newer one",
        )


def require_instructions(missing: Sequence[str]) -> None:
    """Refuse a processor that the embedded runtime's code cannot run on.

    Raises:
        Refused: It lacks instructions.
    """
    if missing:
        raise Refused(
            f"the processor lacks {', '.join(missing)}, which the embedded runtime needs",
            "install Ollama on this machine, or set GFE_OLLAMA_URL to one elsewhere",
        )


def check_machine(*, uses_embedded_runtime: bool) -> None:
    """Check this machine.

    Raises:
        Refused: Something is missing.
    """
    require_python(sys.version_info[:2])
    require_memory(_text(PROC / "meminfo"))
    if uses_embedded_runtime:
        require_instructions(missing_cpu_flags(_text(PROC / "cpuinfo")))


def _text(path: Path) -> str:
    """Read a file of /proc; empty when it is not there."""
    try:
        return path.read_text()
    except OSError:
        return ""

"""What every benchmark prints beside its figures: the machine, its load, and the CPU time that processes used."""

import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, object]:
    """Describe this machine in a few fields."""
    model = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")),
        platform.machine(),
    )
    return {"cpu": model, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "python": platform.python_version()}


def cpu_ms(pid: int) -> float:
    """Tell how much CPU time a process has used, its reaped children included, in ms; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(int(fields[index]) for index in (11, 12, 13, 14)) * TICK_MS


def command_of(pid: int) -> str:
    """Tell a process's command line, arguments joined by blanks; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def processes_like(roles: Mapping[str, Iterable[str]], among: set[int]) -> dict[str, list[int]]:
    """Sort processes into roles: the first role one of whose words is part of the command line takes it."""
    found: dict[str, list[int]] = {role: [] for role in roles}
    for pid in sorted(among):
        command = command_of(pid)
        for role, words in roles.items():
            if command and any(word in command for word in words):
                found[role].append(pid)
                break
    return found


def descendants(roots: Iterable[int]) -> set[int]:
    """Find the processes themselves and all that they started."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    family = set(roots)
    grew = True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family |= more
        grew = bool(more)
    return family

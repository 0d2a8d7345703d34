"""What the machine shows of its owner's use: GPU programs through NVML, battery, heat. Every look is short, and never a crash."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cluster.gpus import has_nvml
from cluster.nodes import Gpu
from provider_join.agent.sharing import Seen

POWER = Path("/sys/class/power_supply")
PROC = Path("/proc")
RUNTIMES = (
    "ollama",
    "llama-server",
    "llama_server",
    "llama-runner",
)  # programs whose use of the GPU is our jobs' or their owner's own chat


@dataclass(frozen=True, slots=True)
class Use:
    """How much of a GPU a program uses, in percent."""

    pid: int
    percent: int


def on_battery(folder: Path = POWER) -> bool | None:
    """Tell whether the machine runs on its battery; None where nobody says, as on machines without one."""
    supplies = {}
    with suppress(OSError):
        for supply in folder.iterdir():
            kind = _line(supply / "type")
            if kind == "Mains" or kind.startswith("USB"):
                supplies[supply.name] = _line(supply / "online") == "1"
            elif kind == "Battery" and _line(supply / "scope") != "Device" and _line(supply / "status") == "Discharging":
                supplies[supply.name] = False
    return not any(supplies.values()) if supplies else None


def _line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def name_of(pid: int, proc: Path = PROC) -> str:
    """Tell a program's name; empty when it is gone or nobody says."""
    return _line(proc / str(pid) / "comm")


def is_runtime(pid: int, own: int, proc: Path = PROC) -> bool:
    """Tell whether a program belongs to a model runtime or to this agent: by its name, or by who started it."""
    for _ in range(16):  # up the family
        if pid in {0, 1}:
            return False
        if pid == own or any(name in name_of(pid, proc).lower() for name in RUNTIMES):
            return True
        try:
            pid = int(_line(proc / str(pid) / "stat").rsplit(")", 1)[1].split()[1])
        except (IndexError, ValueError):
            return False
    return False


def busiest(uses: Sequence[Use], is_ours: Callable[[int], bool], name: Callable[[int], str]) -> tuple[str, int] | None:
    """Find the program of somebody else that uses a GPU most."""
    theirs = [use for use in uses if not is_ours(use.pid)]
    if not theirs:
        return None
    first = max(theirs, key=lambda use: use.percent)
    return name(first.pid) or f"process {first.pid}", first.percent


class Watcher:
    """Looks at this machine."""

    def __init__(self, *, minds_others: bool, simulated: bool = False) -> None:
        self._minds_others = minds_others and not simulated

    def look(self, gpus: Sequence[Gpu], *, jobs: int, is_paused: bool) -> Seen:
        """Look now; `jobs` of ours are running."""
        hot = [gpu.temperature_c for gpu in gpus if gpu.temperature_c is not None]
        return Seen(
            at=datetime.now().astimezone(), others=self._others(gpus, jobs) if self._minds_others else None, on_battery=on_battery(),
            temperature_c=max(hot, default=None), is_paused=is_paused,
        )  # fmt: skip

    def _others(self, gpus: Sequence[Gpu], jobs: int) -> tuple[str, int] | None:
        uses = uses_of_programs()
        if uses is not None:
            return busiest(uses, lambda pid: is_runtime(pid, os.getpid()), name_of)
        busy = [gpu.utilization_percent for gpu in gpus if gpu.utilization_percent is not None]
        return ("another program", max(busy)) if busy and not jobs else None


def uses_of_programs() -> list[Use] | None:
    """Ask NVML what each program uses of each GPU; None where it does not tell."""
    if not has_nvml():
        return None
    from cluster.nvml import uses_of_programs as told_by_nvml  # noqa: PLC0415 - its bindings are loaded where the library is

    uses = told_by_nvml()
    return None if uses is None else [Use(pid, percent) for pid, percent in uses]

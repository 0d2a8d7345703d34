"""GPUs of this machine: through NVML, through Linux's files for AMD, or simulated for machines without (`GFE_SIMULATED_GPUS`)."""

import ctypes
from pathlib import Path
from typing import Protocol

from cluster.nodes import Gpu

MIB = 1024 * 1024
NVML = "libnvidia-ml.so.1"
DRM = Path("/sys/class/drm")
AMD_VENDOR = "0x1002"


class GpuReader(Protocol):
    """Reads the GPUs that are there now."""

    @property
    def problem(self) -> str:
        """What was wrong at the last look, in words; empty: nothing."""

    def read(self) -> tuple[Gpu, ...]:
        """List the devices; none is a good answer."""


class NoGpus:
    """A machine without GPUs, or whose GPUs the runtime does not use."""

    problem = ""

    def read(self) -> tuple[Gpu, ...]:
        """None."""
        return ()


class NvidiaGpus:
    """Reads NVML where this machine has it. Its Python bindings are loaded only then: 2.4 MiB that an idle agent elsewhere need not hold."""

    def __init__(self) -> None:
        self._reader: GpuReader = NoGpus()

    @property
    def problem(self) -> str:
        """What was wrong at the last look."""
        return self._reader.problem

    def read(self) -> tuple[Gpu, ...]:
        """List the devices that answer; a driver that is installed meanwhile is found."""
        if isinstance(self._reader, NoGpus) and has_nvml():
            from cluster.nvml import NvmlGpus  # noqa: PLC0415 - see above

            self._reader = NvmlGpus()
        return self._reader.read()


def has_nvml() -> bool:
    """Tell whether NVIDIA's library can be loaded here."""
    try:
        ctypes.CDLL(NVML)
    except OSError:
        return False
    return True


class AmdGpus:
    """Reads what Linux's driver for AMD says of its cards in files."""

    problem = ""

    def __init__(self, folder: Path = DRM) -> None:
        self._folder = folder

    def read(self) -> tuple[Gpu, ...]:
        """List the cards whose memory can be read."""
        return tuple(gpu for card in sorted(self._folder.glob("card[0-9]*")) if "-" not in card.name and (gpu := _amd(card)))


class LocalGpus:
    """The GPUs of this machine, whoever made them."""

    def __init__(self, *readers: GpuReader) -> None:
        self._readers = readers

    @property
    def problem(self) -> str:
        """What was wrong at the last look."""
        return "; ".join(filter(None, (reader.problem for reader in self._readers)))

    def read(self) -> tuple[Gpu, ...]:
        """List the devices of all makers."""
        return tuple(gpu for reader in self._readers for gpu in reader.read())


class SimulatedGpus:
    """GPUs as a text describes them: `name:total MiB:used MiB:capability`, joined by `;`."""

    problem = ""

    def __init__(self, described: str) -> None:
        self._gpus = tuple(_simulated(index, one) for index, one in enumerate(filter(None, described.split(";"))))

    def read(self) -> tuple[Gpu, ...]:
        """List the described devices."""
        return self._gpus


def gpus_of(simulated: str | None) -> GpuReader:
    """Choose the reader: a description wins over what is there."""
    return SimulatedGpus(simulated) if simulated else LocalGpus(NvidiaGpus(), AmdGpus())


def _simulated(index: int, described: str) -> Gpu:
    try:
        name, total, used, capability = described.split(":")
        total_bytes, used_bytes = int(total) * MIB, int(used) * MIB
    except ValueError as wrong:
        raise ValueError(
            f"`{described}` does not describe a GPU: write name:total MiB:used MiB:capability, e.g. RTX 3060:12288:900:8.6"
        ) from wrong
    return Gpu(
        uuid=f"GPU-simulated-{index}", name=name, total_bytes=total_bytes, free_bytes=total_bytes - used_bytes, driver="simulated",
        compute_capability=capability,
    )  # fmt: skip


def _amd(card: Path) -> Gpu | None:
    device = card / "device"
    if _line(device / "vendor") != AMD_VENDOR:
        return None
    total, used = (_line(device / f"mem_info_vram_{what}") for what in ("total", "used"))
    if not (total and used and total.isdecimal() and used.isdecimal()):
        return None
    busy = _line(device / "gpu_busy_percent")
    return Gpu(
        uuid=f"GPU-{_line(device / 'unique_id') or card.name}", name=_line(device / "product_name") or "AMD GPU", total_bytes=int(total),
        free_bytes=max(0, int(total) - int(used)), driver="amdgpu", utilization_percent=int(busy) if busy and busy.isdecimal() else None,
    )  # fmt: skip


def _line(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None

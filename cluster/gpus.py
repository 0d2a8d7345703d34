"""GPUs of this machine: through NVML, through Linux's files for AMD, or simulated for machines without (`GFE_SIMULATED_GPUS`)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pynvml

from cluster.nodes import Gpu

T = TypeVar("T")
MIB = 1024 * 1024
MAX_DEVICES = 64  # more than any machine has; a driver that says otherwise is not believed
NO_DRIVER = frozenset({pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED})
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


class NvmlGpus:
    """Reads NVML. No driver means no GPUs; a broken one and a vanished GPU are told in `problem`. Never a crash."""

    def __init__(self) -> None:
        self.problem = ""
        self._names: dict[str, str] = {}  # of every card that was ever seen, by uuid

    def read(self) -> tuple[Gpu, ...]:
        """List the devices that answer: of a card in MIG mode its MIG devices, where it has some."""
        found: tuple[Gpu, ...] = ()
        broken = ""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as failed:
            broken = "" if failed.value in NO_DRIVER else f"the NVIDIA driver does not work: {failed}"
        else:
            try:
                found = tuple(_devices())
            finally:
                _or_none(pynvml.nvmlShutdown)
        self.problem = broken or self._vanished(found)
        return found

    def _vanished(self, found: tuple[Gpu, ...]) -> str:
        here = {gpu.part_of or gpu.uuid: gpu.name for gpu in found}  # a card that is cut anew is the same card
        self._names |= here
        return "; ".join(f"the GPU {name} ({uuid}) does not answer any more" for uuid, name in self._names.items() if uuid not in here)


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
    return SimulatedGpus(simulated) if simulated else LocalGpus(NvmlGpus(), AmdGpus())


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


# --- NVML ---------------------------------------------------------------------------------------------------------------------------


def _or_none(call: Callable[..., T], *arguments: Any) -> T | None:
    """Call NVML; what the driver or the device cannot say is None (laptops, virtual GPUs, MIG, old drivers)."""
    try:
        return call(*arguments)
    except (pynvml.NVMLError, UnicodeDecodeError):
        return None


def _text(value: Any) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _devices() -> Iterator[Gpu]:
    driver = _text(_or_none(pynvml.nvmlSystemGetDriverVersion))
    for index in range(min(MAX_DEVICES, _or_none(pynvml.nvmlDeviceGetCount) or 0)):
        handle = _or_none(pynvml.nvmlDeviceGetHandleByIndex, index)
        if handle is None:
            continue
        modes = _or_none(pynvml.nvmlDeviceGetMigMode, handle)
        mig = None if modes is None else modes[0] == pynvml.NVML_DEVICE_MIG_ENABLE
        card = _device(handle, f"GPU-{index}", driver, mig=mig)
        parts = list(_mig_devices(handle, card.uuid if card else None, driver)) if mig else []
        yield from parts or ([card] if card else [])


def _mig_devices(card: Any, uuid: str | None, driver: str | None) -> Iterator[Gpu]:
    """List what a card in MIG mode is cut into; its places may be empty."""
    for place in range(min(MAX_DEVICES, _or_none(pynvml.nvmlDeviceGetMaxMigDeviceCount, card) or 0)):
        handle = _or_none(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, card, place)
        if handle is not None and (found := _device(handle, f"MIG-{uuid}-{place}", driver, mig=True, part_of=uuid or "unknown")):
            yield found


def _device(handle: Any, default_uuid: str, driver: str | None, *, mig: bool | None, part_of: str | None = None) -> Gpu | None:
    """Read a device; None when it does not even tell its memory: it fell off the bus."""
    memory = _or_none(pynvml.nvmlDeviceGetMemoryInfo, handle)
    if not memory:
        return None
    capability = _or_none(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    rates = _or_none(pynvml.nvmlDeviceGetUtilizationRates, handle)
    return Gpu(
        uuid=_text(_or_none(pynvml.nvmlDeviceGetUUID, handle)) or default_uuid,
        name=_text(_or_none(pynvml.nvmlDeviceGetName, handle)) or "unknown GPU",
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        driver=driver,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        utilization_percent=int(rates.gpu) if rates else None,
        temperature_c=_or_none(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        mig=mig,
        part_of=part_of,
    )


# --- AMD ----------------------------------------------------------------------------------------------------------------------------


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

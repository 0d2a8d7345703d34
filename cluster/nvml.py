"""NVIDIA's library: the GPUs of this machine and who uses them. Imported only where the library is, see `cluster/gpus.py`."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import pynvml

from cluster.nodes import Gpu

T = TypeVar("T")
MAX_DEVICES = 64  # more than any machine has; a driver that says otherwise is not believed
SAMPLE_US = 1_000_000
NO_DRIVER = frozenset({pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED})


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


def uses_of_programs() -> list[tuple[int, int]] | None:
    """Tell the id and the percent of a GPU of each program that uses one; None where the driver does not tell."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return [use for handle in _handles() for use in _uses_on(handle)]
    except pynvml.NVMLError:
        return None
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _handles() -> list[Any]:
    return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(min(MAX_DEVICES, pynvml.nvmlDeviceGetCount()))]


def _uses_on(handle: Any) -> list[tuple[int, int]]:
    since_us = int(time.time() * 1e6) - SAMPLE_US
    try:
        samples = pynvml.nvmlDeviceGetProcessUtilization(handle, since_us)
    except pynvml.NVMLError as failed:
        if failed.value == pynvml.NVML_ERROR_NOT_FOUND:  # nobody used it since then
            return []
        raise
    return [(int(one.pid), int(one.smUtil)) for one in samples]

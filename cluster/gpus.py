"""GPUs of this machine: through NVML, or simulated for machines without (`GFE_SIMULATED_GPUS`)."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import pynvml

from cluster.nodes import Gpu

T = TypeVar("T")
MIB = 1024 * 1024


class GpuReader(Protocol):
    """Reads the GPUs that are there now."""

    def read(self) -> tuple[Gpu, ...]:
        """List the devices; none is a good answer."""


class NoGpus:
    """A machine without GPUs, or whose GPUs the runtime does not use."""

    def read(self) -> tuple[Gpu, ...]:
        """None."""
        return ()


class NvmlGpus:
    """Reads NVML. No driver, a broken driver and a vanished GPU all mean fewer GPUs, never a crash."""

    def read(self) -> tuple[Gpu, ...]:
        """List the devices that answer."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return ()
        try:
            driver = _text(_or_none(pynvml.nvmlSystemGetDriverVersion))
            found = [_device(index, driver) for index in range(_or_none(pynvml.nvmlDeviceGetCount) or 0)]
        finally:
            _or_none(pynvml.nvmlShutdown)
        return tuple(gpu for gpu in found if gpu is not None)


class SimulatedGpus:
    """GPUs as a text describes them: `name:total MiB:used MiB:capability`, joined by `;`."""

    def __init__(self, described: str) -> None:
        self._gpus = tuple(_simulated(index, one) for index, one in enumerate(filter(None, described.split(";"))))

    def read(self) -> tuple[Gpu, ...]:
        """List the described devices."""
        return self._gpus


def gpus_of(simulated: str | None) -> GpuReader:
    """Choose the reader: a description wins over NVML."""
    return SimulatedGpus(simulated) if simulated else NvmlGpus()


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


def _or_none(call: Callable[..., T], *arguments: Any) -> T | None:
    """Call NVML; what the driver or the device cannot say is None (laptops, virtual GPUs, MIG, old drivers)."""
    try:
        return call(*arguments)
    except pynvml.NVMLError:
        return None


def _text(value: Any) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _device(index: int, driver: str | None) -> Gpu | None:
    handle = _or_none(pynvml.nvmlDeviceGetHandleByIndex, index)
    memory = handle and _or_none(pynvml.nvmlDeviceGetMemoryInfo, handle)
    if not memory:
        return None
    capability = _or_none(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    rates = _or_none(pynvml.nvmlDeviceGetUtilizationRates, handle)
    return Gpu(
        uuid=_text(_or_none(pynvml.nvmlDeviceGetUUID, handle)) or f"GPU-{index}",
        name=_text(_or_none(pynvml.nvmlDeviceGetName, handle)) or "unknown GPU",
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        driver=driver,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        utilization_percent=int(rates.gpu) if rates else None,
        temperature_c=_or_none(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
    )

"""GPUs: what NVML says, whatever of it is missing, and simulated ones."""

# ruff: noqa: N802 - the functions are named as the driver names them

import ctypes

import pynvml
import pytest

from cluster.gpus import MIB, LocalGpus, NvmlGpus, SimulatedGpus, gpus_of

OK, NOT_SUPPORTED, LOST = 0, 3, 15


class FakeNvml:
    """Stands where the driver's library stands: every function answers a code and writes through its pointers."""

    def __init__(self, count=2, init=OK, missing=(), failing=None):
        self.count, self.init, self.missing, self.failing = count, init, missing, failing or {}

    def __getattr__(self, name):
        if name in self.missing:
            raise AttributeError(name)
        if name in self.failing:
            return lambda *_: self.failing[name]
        return getattr(type(self), f"do_{name}").__get__(self)

    def do_nvmlInitWithFlags(self, *_):
        return self.init

    def do_nvmlShutdown(self, *_):
        return OK

    def do_nvmlSystemGetDriverVersion(self, text, _size):
        text.value = b"570.1"
        return OK

    def do_nvmlDeviceGetCount_v2(self, count):
        count._obj.value = self.count
        return OK

    def do_nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        number = index.value if hasattr(index, "value") else index
        ctypes.cast(handle, ctypes.POINTER(ctypes.c_void_p))[0] = 1000 + number
        return OK

    def do_nvmlDeviceGetMemoryInfo(self, _handle, memory):
        memory._obj.total, memory._obj.free, memory._obj.used = 12288 * MIB, 11388 * MIB, 900 * MIB
        return OK

    def do_nvmlDeviceGetName(self, _handle, text, _size):
        text.value = b"NVIDIA GeForce RTX 3060"
        return OK

    def do_nvmlDeviceGetUUID(self, handle, text, _size):
        number = handle if isinstance(handle, int) else ctypes.cast(handle, ctypes.c_void_p).value
        text.value = f"GPU-{number}".encode()
        return OK

    def do_nvmlDeviceGetCudaComputeCapability(self, _handle, major, minor):
        major._obj.value, minor._obj.value = 8, 6
        return OK

    def do_nvmlDeviceGetUtilizationRates(self, _handle, rates):
        rates._obj.gpu = 42
        return OK

    def do_nvmlDeviceGetTemperature(self, _handle, _sensor, value):
        value._obj.value = 61
        return OK


@pytest.fixture
def nvml(monkeypatch):
    def install(**options):
        monkeypatch.setattr(pynvml, "nvmlLib", FakeNvml(**options))
        monkeypatch.setattr(pynvml, "_LoadNvmlLibrary", lambda: None)
        pynvml._nvmlGetFunctionPointer_cache.clear()
        return NvmlGpus()

    yield install
    pynvml._nvmlGetFunctionPointer_cache.clear()


def test_every_device_is_listed_with_what_the_driver_says(nvml):
    first, second = nvml().read()
    assert (first.name, first.total_bytes, first.free_bytes) == ("NVIDIA GeForce RTX 3060", 12288 * MIB, 11388 * MIB)
    assert (first.driver, first.compute_capability, first.utilization_percent, first.temperature_c) == ("570.1", "8.6", 42, 61)
    assert first.uuid != second.uuid


def test_a_machine_without_a_driver_has_no_gpus(nvml):
    assert nvml(init=9).read() == ()


def test_a_machine_without_the_library_has_no_gpus(monkeypatch):
    def missing():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_LoadNvmlLibrary", missing)
    assert NvmlGpus().read() == ()


@pytest.mark.parametrize("code", [NOT_SUPPORTED, LOST, 999])
def test_what_a_device_cannot_say_is_none(nvml, code):
    names = [
        "nvmlDeviceGetCudaComputeCapability",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetTemperature",
        "nvmlSystemGetDriverVersion",
    ]
    (gpu,) = nvml(count=1, failing=dict.fromkeys(names, code)).read()
    assert (gpu.compute_capability, gpu.utilization_percent, gpu.temperature_c, gpu.driver) == (None,) * 4
    assert gpu.total_bytes == 12288 * MIB


def test_an_old_driver_that_lacks_a_function_is_no_crash(nvml):
    (gpu,) = nvml(count=1, missing=("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTemperature")).read()
    assert (gpu.utilization_percent, gpu.temperature_c) == (None, None)


def test_a_device_that_fell_off_the_bus_is_left_out(nvml):
    assert nvml(failing={"nvmlDeviceGetMemoryInfo": LOST}).read() == ()
    assert nvml(failing={"nvmlDeviceGetCount_v2": 999}).read() == ()


def test_gpus_can_be_simulated():
    first, second = gpus_of("RTX 3060:12288:900:8.6;A100:81920:0:8.0").read()
    assert (first.name, first.total_bytes, first.free_bytes, first.compute_capability) == ("RTX 3060", 12288 * MIB, 11388 * MIB, "8.6")
    assert second.uuid != first.uuid
    assert isinstance(gpus_of(None), LocalGpus)
    assert isinstance(gpus_of(""), LocalGpus)


@pytest.mark.parametrize("described", ["RTX", "RTX:big:0:8.6", "RTX:1:2:3:4"])
def test_a_wrong_description_says_how_to_write_it(described):
    with pytest.raises(ValueError, match="name:total MiB:used MiB:capability"):
        SimulatedGpus(described)

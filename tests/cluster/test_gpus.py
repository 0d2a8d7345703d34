"""GPUs: what NVML says, whatever of it is missing, and simulated ones."""

# ruff: noqa: N802 - the functions are named as the driver names them

import ctypes
import os
import shutil
import subprocess
import sys

import pynvml
import pytest

from cluster.gpus import MIB, AmdGpus, LocalGpus, SimulatedGpus, gpus_of, has_nvml
from cluster.nvml import NvmlGpus

OK, NOT_SUPPORTED, NOT_FOUND, LOST = 0, 3, 6, 15


def number_of(handle):
    return handle if isinstance(handle, int) else ctypes.cast(handle, ctypes.c_void_p).value


class FakeNvml:
    """Stands where the driver's library stands: every function answers a code and writes through its pointers."""

    def __init__(self, count=2, init=OK, missing=(), failing=None, mig=None):
        self.count, self.init, self.missing, self.failing = count, init, missing, failing or {}
        self.mig = mig or {}  # card -> how many MIG devices it is cut into

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

    def do_nvmlDeviceGetMigMode(self, handle, current, pending):
        current._obj.value = pending._obj.value = int(number_of(handle) - 1000 in self.mig)
        return OK

    def do_nvmlDeviceGetMaxMigDeviceCount(self, _card, count):
        count._obj.value = 7
        return OK

    def do_nvmlDeviceGetMigDeviceHandleByIndex(self, card, place, handle):
        number = place.value if hasattr(place, "value") else place
        if number % 2 == 0 or number // 2 >= self.mig[number_of(card) - 1000]:  # places may be empty
            return NOT_FOUND
        ctypes.cast(handle, ctypes.POINTER(ctypes.c_void_p))[0] = number_of(card) * 10 + number
        return OK

    def do_nvmlDeviceGetMemoryInfo(self, _handle, memory):
        memory._obj.total, memory._obj.free, memory._obj.used = 12288 * MIB, 11388 * MIB, 900 * MIB
        return OK

    def do_nvmlDeviceGetName(self, _handle, text, _size):
        text.value = b"NVIDIA GeForce RTX 3060"
        return OK

    def do_nvmlDeviceGetUUID(self, handle, text, _size):
        text.value = f"GPU-{number_of(handle)}".encode()
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


def test_a_card_in_mig_mode_is_listed_as_its_devices(nvml):
    found = nvml(count=2, mig={0: 2}).read()
    assert [(gpu.part_of, gpu.mig, gpu.total_bytes) for gpu in found] == [
        ("GPU-1000", True, 12288 * MIB),
        ("GPU-1000", True, 12288 * MIB),
        (None, False, 12288 * MIB),
    ]
    assert len({gpu.uuid for gpu in found}) == 3


def test_a_card_in_mig_mode_without_devices_is_told_as_such(nvml):
    (card,) = nvml(count=1, mig={0: 0}).read()
    assert (card.mig, card.part_of) == (True, None)


def test_a_driver_that_does_not_know_mig_says_nothing_of_it(nvml):
    (card,) = nvml(count=1, failing={"nvmlDeviceGetMigMode": NOT_SUPPORTED}).read()
    assert card.mig is None


@pytest.mark.parametrize(("code", "is_told"), [(9, False), (12, False), (18, True), (999, True)])
def test_a_broken_driver_is_told_and_a_missing_one_is_not(nvml, code, is_told):
    reader = nvml(init=code)
    assert reader.read() == ()
    assert bool(reader.problem) is is_told


def test_a_gpu_that_vanishes_between_two_looks_is_told_until_it_is_back(nvml):
    reader = nvml(count=2)
    assert (len(reader.read()), reader.problem) == (2, "")
    pynvml.nvmlLib.count = 1
    assert len(reader.read()) == 1
    assert reader.problem == "the GPU NVIDIA GeForce RTX 3060 (GPU-1001) does not answer any more"
    pynvml.nvmlLib.count = 2
    assert (len(reader.read()), reader.problem) == (2, "")


def test_a_card_that_is_cut_anew_has_not_vanished(nvml):
    reader = nvml(count=1)
    reader.read()
    pynvml.nvmlLib.mig = {0: 2}
    assert (len(reader.read()), reader.problem) == (2, "")


def test_cards_of_amd_are_read_from_the_drivers_files(tmp_path):
    for card, vendor, total in (("card0", "0x1002", 16 * 1024 * MIB), ("card1", "0x10de", 1), ("card0-DP-1", "0x1002", 1)):
        (tmp_path / card / "device").mkdir(parents=True)
        (tmp_path / card / "device/vendor").write_text(f"{vendor}\n")
        (tmp_path / card / "device/mem_info_vram_total").write_text(f"{total}\n")
        (tmp_path / card / "device/mem_info_vram_used").write_text("1048576\n")
    (gpu,) = AmdGpus(tmp_path).read()
    assert (gpu.name, gpu.total_bytes, gpu.free_bytes, gpu.driver) == ("AMD GPU", 16 * 1024 * MIB, 16 * 1024 * MIB - MIB, "amdgpu")
    (tmp_path / "card0/device/mem_info_vram_used").write_text("many")
    assert AmdGpus(tmp_path).read() == ()
    assert AmdGpus(tmp_path / "none").read() == ()


FAKE_DRIVER = r"""
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory_t;
static int cards(void) { const char *n = getenv("FAKE_GPUS"); return n ? atoi(n) : 0; }
int nvmlInitWithFlags(unsigned f) { return cards() ? 0 : 9; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : "error"; }
int nvmlSystemGetDriverVersion(char *v, unsigned n) { strncpy(v, "570.1", n); return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = cards(); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = (void *)(size_t)(i + 1); return 0; }
int nvmlDeviceGetMemoryInfo(void *h, memory_t *m) { m->total = 12884901888ULL; m->used = 943718400ULL; m->free = m->total - m->used; return 0; }
int nvmlDeviceGetName(void *h, char *v, unsigned n) { strncpy(v, "NVIDIA GeForce RTX 3060", n); return 0; }
int nvmlDeviceGetUUID(void *h, char *v, unsigned n) { snprintf(v, n, "GPU-%zu", (size_t)h); return 0; }
int nvmlDeviceGetCudaComputeCapability(void *h, int *a, int *b) { *a = 8; *b = 6; return 0; }
"""


@pytest.fixture(scope="module")
def driver_folder(tmp_path_factory):
    """A library that stands where the driver's does: compiled C, found as the real one is."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not here to compile a fake driver")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "fake.c").write_text(FAKE_DRIVER)
    options = ["-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-o", str(folder / "libnvidia-ml.so.1")]
    subprocess.run(["gcc", *options, str(folder / "fake.c")], check=True)
    return folder


@pytest.mark.parametrize(("cards", "told"), [("2", ["GPU-1", "GPU-2"]), ("0", [])])
def test_the_unmodified_library_reads_a_driver_of_compiled_code(driver_folder, cards, told):
    look = "from cluster.gpus import gpus_of; found = gpus_of(None); print(*(g.uuid for g in found.read() if g.utilization_percent is None)); print(found.problem)"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver_folder), "FAKE_GPUS": cards}
    done = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True, timeout=60)
    said, problem = done.stdout.splitlines()
    assert (said.split(), problem) == (told, "")


def test_an_agent_of_a_machine_without_the_library_does_not_hold_its_bindings():
    if has_nvml():
        pytest.skip("NVIDIA's library is here")
    look = "import sys; from provider_join.agent import main, watching; main.gpus_of(None).read(); watching.uses_of_programs(); print('pynvml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False"]

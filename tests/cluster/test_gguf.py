"""Model files come from anybody: what is said of one is what stands there, and nothing that stands there hurts."""

import contextlib
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.runtime.front.model import read_checked
from cluster.runtime.gguf import KEPT_ITEMS, NotGguf, read_metadata
from tests.tiny_gguf import SMOLLM2_LIKE, gguf, text, value

LONG = ["word"] * (KEPT_ITEMS + 1)


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return path

    return write


def test_the_pairs_are_read_and_the_parameters_counted(file):
    read = read_metadata(file(gguf(tensors=[("a", (576, 4), 0), ("b", (10,), 1024)])))
    assert read == SMOLLM2_LIKE | {"general.tensor_elements": 576 * 4 + 10}


def test_long_arrays_are_read_only_when_they_are_asked_for(file):
    path = file(gguf({**SMOLLM2_LIKE, "words": LONG, "numbers": list(range(2000)), "few": ["a", "b"]}))
    read = read_metadata(path)
    assert (read["words"], read["numbers"], read["few"]) == (None, None, ["a", "b"])
    assert read_metadata(path, kept_items=10**6)["words"] == LONG


def test_what_json_cannot_say_is_left_out(file):
    assert read_metadata(file(gguf({**SMOLLM2_LIKE, "scale": float("inf")})))["scale"] is None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"GGU", b"GGUF", b"GGUF\x03\x00", b"PK\x03\x04" + b"\0" * 100,
        gguf(version=1), gguf(version=99),
        gguf()[:200], gguf(weights=b""), gguf(tensors=[("far", (2,), 10**9)]),
        gguf(tensors=[("many", (1,) * 9, 0)]),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 10**9),
        b"GGUF" + struct.pack("<IQQ", 3, 10**9, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**62),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", 9, 4, 2**60),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", 9, 8, 9_000_000) + b"\0" * 1000,
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 2000,
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<I", 77),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + (text("a") + value(1)) * 2,
        gguf({**SMOLLM2_LIKE, "general.alignment": 0}), gguf({**SMOLLM2_LIKE, "general.alignment": "32"}),
    ],
)  # fmt: skip
def test_what_is_no_whole_gguf_is_refused(file, content):
    with pytest.raises(NotGguf):
        read_metadata(file(content))


@pytest.mark.parametrize(
    "wrong",
    [
        {"general.architecture": 7}, {"general.architecture": "../../etc"}, {"llama.context_length": "many"}, {"llama.context_length": 2**40},
        {"llama.context_length": True}, {"llama.block_count": 0}, {"tokenizer.chat_template": 1}, {"general.file_type": "Q4"},
    ],
)  # fmt: skip
def test_what_says_what_cannot_be_is_refused(file, wrong):
    with pytest.raises(NotGguf):
        read_checked(file(gguf({**SMOLLM2_LIKE, **wrong})))


def test_a_file_must_tell_its_architecture(file):
    with pytest.raises(NotGguf):
        read_checked(file(gguf({"general.name": "nobody"})))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=8), cut=st.integers(0, 5000))
def test_whatever_bytes_are_changed_it_is_read_or_refused(file, changes, cut):
    content = bytearray(gguf({**SMOLLM2_LIKE, "words": ["a", "bc", "def"], "nested": [[1, 2], [3, 4]]}))
    for place, byte in changes:
        content[place] = byte
    with contextlib.suppress(NotGguf):
        read_checked(file(bytes(content[: len(content) - cut])))

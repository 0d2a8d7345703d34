"""The memory formula against what llama.cpp was measured to take."""

import pytest

from cluster.fit import CPU_OVERHEAD_BYTES, MIB, KvType, bytes_needed, fits, kv_bytes, shape_of

SMOLLM2 = {
    "general.architecture": "llama", "llama.block_count": 30, "llama.attention.head_count": 9, "llama.attention.head_count_kv": 3,
    "llama.embedding_length": 576,
}  # fmt: skip
GEMMA3_270M = {
    "general.architecture": "gemma3", "gemma3.block_count": 18, "gemma3.attention.head_count": 4, "gemma3.attention.head_count_kv": 1,
    "gemma3.embedding_length": 640, "gemma3.attention.key_length": 256, "gemma3.attention.value_length": 256,
    "gemma3.attention.sliding_window": 512,
}  # fmt: skip


@pytest.mark.parametrize(
    ("context", "slots", "kv", "formula_mib", "measured_mib"),
    [
        (2048, 1, KvType.F16, 45.0, 72.8),
        (8192, 1, KvType.F16, 180.0, 207.8),
        (4096, 4, KvType.F16, 360.0, 388.4),
        (8192, 4, KvType.F16, 720.0, 749.2),
        (8192, 1, KvType.Q8_0, 95.6, 124.0),
        (8192, 1, KvType.F16, 180.0, 224.1),  # after a prompt of 1,831 tokens
    ],
)
def test_the_formula_is_27_to_45_mib_below_the_measured_memory(context, slots, kv, formula_mib, measured_mib):
    needed = kv_bytes(shape_of(SMOLLM2, 0), context_tokens=context, slots=slots, kv=kv) / MIB
    assert needed == pytest.approx(formula_mib, abs=0.05)
    assert 27 <= measured_mib - needed <= 45


def test_layers_with_a_sliding_window_do_not_grow_with_the_context():
    def at(context):
        return kv_bytes(shape_of(GEMMA3_270M, 0), context_tokens=context, slots=1, kv=KvType.F16) / MIB

    assert at(32768) - at(2048) == pytest.approx(90.0)


def test_an_architecture_whose_pattern_is_unknown_counts_in_full():
    info = {key.replace("gemma3", "mystery"): value for key, value in GEMMA3_270M.items()} | {"general.architecture": "mystery"}
    assert shape_of(info, 0).windows == (0,) * 18


def test_heads_may_differ_by_layer():
    shape = shape_of(SMOLLM2 | {"llama.attention.head_count_kv": [1] * 15 + [0] * 15}, 0)
    assert kv_bytes(shape, context_tokens=2048, slots=1, kv=KvType.F16) / MIB == pytest.approx(7.5)


def test_weights_cache_and_overhead_add_up():
    shape = shape_of(SMOLLM2, 100 * MIB)
    cpu = bytes_needed(shape, context_tokens=2048, slots=1, on_gpu=False)
    assert cpu == 145 * MIB + CPU_OVERHEAD_BYTES
    assert bytes_needed(shape, context_tokens=2048, slots=1) > cpu


def test_a_sixth_of_the_memory_stays_free():
    assert fits(85, 100)
    assert not fits(86, 100)


def test_a_model_that_does_not_say_its_shape_is_an_error():
    with pytest.raises(KeyError):
        shape_of({"general.architecture": "llama"}, 0)

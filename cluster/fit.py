"""How much memory a model takes. Pure.

weights + sum over layers of 2 · kv_heads · head_dim · bytes · context · slots + overhead. Source: the measured table in the Ollama
reference, section 6.3 (SmolLM2 on a CPU: the formula is 28 MiB below the resident memory, 44 MiB after a long prompt).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MIB = 1024 * 1024
CPU_OVERHEAD_BYTES = 28 * MIB
CUDA_OVERHEAD_BYTES = 1024 * MIB
USABLE_SHARE = 0.85  # of a GPU's free memory
# Every n-th layer looks at the whole context, the others through the window. Only where that was measured; layers of all other
# architectures count in full, so that the estimate may be too high, never too low.
WINDOW_PATTERNS = {"gemma3": 6}


class KvType(StrEnum):
    """How the KV cache is stored."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


_KV_BYTES = {KvType.F16: 2.0, KvType.Q8_0: 34 / 32, KvType.Q4_0: 18 / 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """What the formula needs of a model. `kv_heads` per layer; `windows` per layer, 0: the whole context."""

    weights_bytes: int
    kv_heads: tuple[int, ...]
    key_length: int
    value_length: int
    windows: tuple[int, ...]


def shape_of(info: Mapping[str, Any], weights_bytes: int) -> ModelShape:
    """Read the shape from the `model_info` of Ollama's show.

    Raises:
        KeyError: A needed key is missing.
    """
    a = info["general.architecture"]
    layers = int(info[f"{a}.block_count"])
    heads = int(info[f"{a}.attention.head_count"])
    kv = info.get(f"{a}.attention.head_count_kv", heads)
    head_dim = int(info[f"{a}.embedding_length"]) // heads
    window = int(info.get(f"{a}.attention.sliding_window") or 0)
    pattern = WINDOW_PATTERNS.get(str(a), 1)
    return ModelShape(
        weights_bytes=weights_bytes,
        kv_heads=tuple(kv) if isinstance(kv, list) else (int(kv),) * layers,
        key_length=int(info.get(f"{a}.attention.key_length", head_dim)),
        value_length=int(info.get(f"{a}.attention.value_length", head_dim)),
        windows=tuple(window if (layer + 1) % pattern else 0 for layer in range(layers)),
    )


def kv_bytes(shape: ModelShape, *, context_tokens: int, slots: int, kv: KvType) -> int:
    """Tell how much memory the KV cache takes, in bytes."""
    cells = sum(
        heads * (shape.key_length + shape.value_length) * (min(context_tokens, window) if window else context_tokens)
        for heads, window in zip(shape.kv_heads, shape.windows, strict=True)
    )
    return round(cells * slots * _KV_BYTES[kv])


def bytes_needed(shape: ModelShape, *, context_tokens: int, slots: int, kv: KvType = KvType.F16, on_gpu: bool = True) -> int:
    """Tell how much memory the loaded model takes, in bytes."""
    overhead = CUDA_OVERHEAD_BYTES if on_gpu else CPU_OVERHEAD_BYTES
    return shape.weights_bytes + kv_bytes(shape, context_tokens=context_tokens, slots=slots, kv=kv) + overhead


def fits(needed_bytes: int, free_bytes: int) -> bool:
    """Tell whether it fits with some room to spare."""
    return needed_bytes <= USABLE_SHARE * free_bytes


def need_of(info: Mapping[str, Any], weights_bytes: int, *, context_tokens: int, slots: int, on_gpu: bool) -> int | None:
    """Tell how much memory a model takes, in bytes, from the `model_info` of Ollama's show; None where that does not say enough."""
    try:
        shape = shape_of(info, weights_bytes)
        return bytes_needed(shape, context_tokens=context_tokens, slots=slots, on_gpu=on_gpu)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None

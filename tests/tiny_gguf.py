"""Writes GGUF files: whole ones without weights, and whatever a test wants to be wrong with them."""

import struct

SMOLLM2_LIKE = {
    "general.architecture": "llama", "general.file_type": 3, "llama.block_count": 30, "llama.context_length": 8192, "llama.embedding_length": 576,
    "llama.attention.head_count": 9, "llama.attention.head_count_kv": 3,
}  # fmt: skip
TENSOR = ("token_embd.weight", (576, 4), 0)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value(given: object) -> bytes:
    """A value with its kind before it."""
    match given:
        case bool():
            return struct.pack("<I?", 7, given)
        case int():
            return struct.pack("<IQ", 10, given)
        case float():
            return struct.pack("<If", 6, given)
        case str():
            return struct.pack("<I", 8) + text(given)
        case list():
            items = [value(item) for item in given]
            kind = items[0][:4] if items else struct.pack("<I", 4)
            return struct.pack("<I", 9) + kind + struct.pack("<Q", len(items)) + b"".join(item[4:] for item in items)
    raise TypeError(given)


def gguf(pairs=None, tensors=(TENSOR,), weights=b"\0" * 4096, version=3) -> bytes:
    """A file that says `pairs` (by default what SmolLM2's says), names `tensors` and holds `weights`."""
    said = SMOLLM2_LIKE if pairs is None else pairs
    whole = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(said))
    for key, one in said.items():
        whole += text(key) + value(one)
    for name, sizes, start in tensors:
        whole += text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, 3, start)
    return whole + b"\0" * (-len(whole) % 32) + weights

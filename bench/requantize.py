"""Writes a copy of a model file with other weights: Q8_0, Q4_0, a Q2_K mix, or the same numbers in F32.

llama.cpp's own row functions do the work, called in the library that comes with `xllamacpp`; its `llama_model_quantize` is not exported.
As llama.cpp does it: a row that is no whole number of Q2_K's blocks of 256 becomes IQ4_NL, norms stay F32. Unlike its presets, every other
tensor gets the one type, the embeddings too. Run: `python -m bench.requantize MODEL.gguf COPY.gguf q4_0`.
"""

import ctypes
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cluster.runtime.gguf import DEFAULT_ALIGNMENT, _Reader

F32 = 0
TYPES = {"f32": F32, "q8_0": 8, "q4_0": 2, "q2_k": 10}
FILE_TYPES = {"f32": 0, "q8_0": 7, "q4_0": 2, "q2_k": 10}  # as `general.file_type` counts
BLOCKS_OF_256 = {10: 20}  # Q2_K -> IQ4_NL where rows are too short
ROW_READERS = {
    2: "dequantize_row_q4_0",
    3: "dequantize_row_q4_1",
    6: "dequantize_row_q5_0",
    8: "dequantize_row_q8_0",
    14: "dequantize_row_q6_K",
}


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file. `start` counts from where the tensors begin."""

    name: str
    sizes: tuple[int, ...]
    kind: int
    start: int

    @property
    def rows(self) -> int:
        """How many rows it has; a row is the first dimension."""
        return math.prod(self.sizes[1:])


@dataclass(frozen=True)
class Head:
    """What stands before the tensors: the pairs as they are written, where in them the file's type is, the tensors, where these begin."""

    pairs: int
    written: bytes
    type_at: int | None
    tensors: tuple[Tensor, ...]
    begin: int


def read_head(path: Path, file: BinaryIO) -> Head:
    """Read a file's head."""
    reader = _Reader(file, path.name, path.stat().st_size, 0)
    reader._exactly(4)
    _version, tensors, pairs = reader._numbers("IQQ")
    first, type_at, alignment = file.tell(), None, DEFAULT_ALIGNMENT
    for _ in range(pairs):
        key, (kind,) = reader._text(), reader._numbers("I")
        at = file.tell()
        value = reader._value(kind)
        type_at = at - first if key == "general.file_type" else type_at
        alignment = value if key == "general.alignment" else alignment
    last = file.tell()
    file.seek(first)
    written = file.read(last - first)
    found = tuple(_tensor(reader) for _ in range(tensors))
    return Head(pairs, written, type_at, found, -(-file.tell() // alignment) * alignment)


def _tensor(reader: _Reader) -> Tensor:
    name, (dimensions,) = reader._text(), reader._numbers("I")
    sizes = reader._numbers("Q" * dimensions)
    kind, start = reader._numbers("IQ")
    return Tensor(name, sizes, kind, start)


class Library:
    """llama.cpp's functions on rows."""

    def __init__(self) -> None:
        import xllamacpp.xllamacpp

        self._c = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
        self._c.ggml_row_size.argtypes, self._c.ggml_row_size.restype = (ctypes.c_int, ctypes.c_int64), ctypes.c_size_t
        self._c.ggml_blck_size.argtypes, self._c.ggml_blck_size.restype = (ctypes.c_int,), ctypes.c_int64
        self._c.ggml_quantize_init.argtypes = (ctypes.c_int,)
        self._c.ggml_quantize_chunk.argtypes = (
            ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
        )  # fmt: skip
        self._c.ggml_quantize_chunk.restype = ctypes.c_size_t

    def bytes_of(self, tensor: Tensor, kind: int) -> int:
        """How many bytes a tensor takes as this type."""
        return int(self._c.ggml_row_size(kind, tensor.sizes[0])) * tensor.rows

    def fitting(self, kind: int, tensor: Tensor) -> int:
        """The type that a tensor gets: the wanted one, another where its rows are too short, none where it is a vector."""
        if len(tensor.sizes) < 2:
            return tensor.kind
        return BLOCKS_OF_256.get(kind, kind) if tensor.sizes[0] % self._c.ggml_blck_size(kind) else kind

    def converted(self, weights: bytes, tensor: Tensor, kind: int) -> bytes:
        """Write a tensor's weights as another type."""
        if kind == tensor.kind:
            return weights
        plain = self._plain(weights, tensor)
        if kind == F32:
            return bytes(plain)
        self._c.ggml_quantize_init(kind)
        target = ctypes.create_string_buffer(self.bytes_of(tensor, kind))
        self._c.ggml_quantize_chunk(kind, plain, target, 0, tensor.rows, tensor.sizes[0], None)
        return target.raw

    def _plain(self, weights: bytes, tensor: Tensor) -> "ctypes.Array[ctypes.c_char]":
        count = math.prod(tensor.sizes)
        if tensor.kind == F32:
            return ctypes.create_string_buffer(weights, 4 * count)
        read = getattr(self._c, ROW_READERS[tensor.kind])
        read.argtypes, read.restype = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64), None
        plain = ctypes.create_string_buffer(4 * count)
        read(weights, plain, count)
        return plain


def requantize(source: Path, target: Path, name: str) -> None:
    """Write a copy of `source` whose weights have the type `name`; nothing of it is there before it is whole."""
    library, half = Library(), target.with_suffix(".part")
    with source.open("rb") as file, half.open("wb") as copy:
        head = read_head(source, file)
        kinds = [library.fitting(TYPES[name], tensor) for tensor in head.tensors]
        copy.write(_written_head(head, list(_placed(library, head.tensors, kinds)), FILE_TYPES[name]))
        for tensor, kind in zip(head.tensors, kinds, strict=True):
            file.seek(head.begin + tensor.start)
            weights = library.converted(file.read(library.bytes_of(tensor, tensor.kind)), tensor, kind)
            copy.write(weights + b"\0" * (-len(weights) % DEFAULT_ALIGNMENT))
    half.replace(target)


def _placed(library: Library, tensors: tuple[Tensor, ...], kinds: list[int]) -> Iterator[Tensor]:
    start = 0
    for tensor, kind in zip(tensors, kinds, strict=True):
        yield Tensor(tensor.name, tensor.sizes, kind, start)
        size = library.bytes_of(tensor, kind)
        start += size + -size % DEFAULT_ALIGNMENT


def _written_head(head: Head, tensors: list[Tensor], file_type: int) -> bytes:
    import struct

    pairs = bytearray(head.written)
    if head.type_at is not None:
        struct.pack_into("<I", pairs, head.type_at, file_type)
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), head.pairs), bytes(pairs)]
    for tensor in tensors:
        name = tensor.name.encode()
        parts += [struct.pack("<Q", len(name)), name, struct.pack(f"<I{len(tensor.sizes)}Q", len(tensor.sizes), *tensor.sizes)]
        parts += [struct.pack("<IQ", tensor.kind, tensor.start)]
    whole = b"".join(parts)
    return whole + b"\0" * (-len(whole) % DEFAULT_ALIGNMENT)


if __name__ == "__main__":
    requantize(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

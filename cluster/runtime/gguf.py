"""Reads the metadata of a GGUF file: the header, its key-value pairs and where its tensors are, never the tensors.

Format: the GGUF specification of the ggml project, versions 2 and 3. Files come from anybody, so every length is bounded before anything is
allocated, and nothing may lie beyond the file's end.
"""

import math
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"GGUF"
MAX_PAIRS = 10_000
MAX_TENSORS = 100_000
MAX_TEXT_BYTES = 16 * 1024 * 1024
MAX_ITEMS = 10_000_000
MAX_DEPTH = 4  # of arrays in arrays
MAX_DIMENSIONS = 8
KEPT_ITEMS = 1024  # longer arrays (vocabularies) are told by their length only
DEFAULT_ALIGNMENT = 32
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_SMALLEST = {_TEXT: 8, _ARRAY: 12} | {kind: struct.calcsize("<" + code) for kind, code in _NUMBERS.items()}  # bytes that an item takes


class NotGguf(Exception):
    """The file is not a GGUF file that we can read; says why."""


def read_metadata(path: Path, *, kept_items: int = KEPT_ITEMS) -> dict[str, Any]:
    """Read the key-value pairs; `general.tensor_elements` is added: the number of parameters. Arrays longer than `kept_items` become None.

    Raises:
        NotGguf: Not such a file, or a length in it is beyond reason.
    """
    with path.open("rb") as file:
        reader = _Reader(file, path.name, os.fstat(file.fileno()).st_size, kept_items)
        return reader.metadata()


@dataclass(slots=True)
class _Reader:
    file: BinaryIO
    name: str
    size_bytes: int
    kept_items: int
    _tensor_starts: list[int] = field(default_factory=list)

    def metadata(self) -> dict[str, Any]:
        if self._exactly(4) != MAGIC:
            raise NotGguf(f"{self.name} does not begin with GGUF")
        version, tensors, pairs = self._numbers("IQQ")
        if version not in {2, 3} or pairs > MAX_PAIRS or tensors > MAX_TENSORS:
            raise NotGguf(f"{self.name} has GGUF version {version} with {pairs} pairs and {tensors} tensors")
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            key = self._text()
            if key in metadata:
                raise NotGguf(f"{self.name} says {key[:80]} twice")
            metadata[key] = self._value(self._numbers("I")[0])
        metadata["general.tensor_elements"] = sum(self._tensor_elements() for _ in range(tensors))
        self._require_tensors_inside(metadata.get("general.alignment", DEFAULT_ALIGNMENT))
        return metadata

    def _left(self) -> int:
        return self.size_bytes - self.file.tell()

    def _exactly(self, count: int) -> bytes:
        if count > self._left():
            raise NotGguf(f"{self.name} is cut off")
        return self.file.read(count)

    def _numbers(self, codes: str) -> tuple[Any, ...]:
        return struct.unpack("<" + codes, self._exactly(struct.calcsize("<" + codes)))

    def _text(self) -> str:
        (length,) = self._numbers("Q")
        if length > MAX_TEXT_BYTES:
            raise NotGguf(f"{self.name} holds a text that is too long")
        return self._exactly(length).decode(errors="replace")

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind in _NUMBERS:
            (number,) = self._numbers(_NUMBERS[kind])
            return None if isinstance(number, float) and not math.isfinite(number) else number  # JSON has no infinity
        if kind == _TEXT:
            return self._text()
        if kind != _ARRAY or depth >= MAX_DEPTH:
            raise NotGguf(f"{self.name} holds an unknown kind of value, {kind}")
        return self._array(depth)

    def _array(self, depth: int) -> list[Any] | None:
        kind, length = self._numbers("IQ")
        if length > MAX_ITEMS or length * _SMALLEST.get(kind, 1) > self._left():
            raise NotGguf(f"{self.name} holds an array that is too long")
        if length <= self.kept_items:
            return [self._value(kind, depth + 1) for _ in range(length)]
        if kind in _NUMBERS:
            self.file.seek(length * _SMALLEST[kind], os.SEEK_CUR)
        else:
            for _ in range(length):
                self._value(kind, depth + 1)
        return None

    def _tensor_elements(self) -> int:
        self._text()
        (dimensions,) = self._numbers("I")
        if dimensions > MAX_DIMENSIONS:
            raise NotGguf(f"{self.name} holds a tensor with too many dimensions")
        elements: int = math.prod(self._numbers("Q" * dimensions))
        _kind, start = self._numbers("IQ")
        self._tensor_starts.append(start)
        return elements

    def _require_tensors_inside(self, alignment: Any) -> None:
        if not isinstance(alignment, int) or not 0 < alignment <= MAX_TEXT_BYTES:
            raise NotGguf(f"{self.name} has an alignment beyond reason")
        begin = -(-self.file.tell() // alignment) * alignment
        if any(begin + start >= self.size_bytes for start in self._tensor_starts):
            raise NotGguf(f"{self.name} is cut off: a tensor lies beyond its end")

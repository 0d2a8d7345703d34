"""Reads the metadata of a GGUF file: the header and its key-value pairs, never the tensors.

Format: the GGUF specification of the ggml project, versions 2 and 3. Every length is bounded before anything is allocated.
"""

import struct
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"GGUF"
MAX_PAIRS = 10_000
MAX_TEXT_BYTES = 16 * 1024 * 1024
MAX_ITEMS = 10_000_000
KEPT_ITEMS = 1024  # longer arrays (vocabularies) are told by their length only
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9


class NotGguf(Exception):
    """The file is not a GGUF file that we can read."""


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the key-value pairs; `general.tensor_elements` is added: the number of parameters.

    Raises:
        NotGguf: Not such a file, or a length in it is beyond reason.
    """
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise NotGguf(f"{path.name} does not begin with GGUF")
        version, tensors, pairs = struct.unpack("<IQQ", file.read(20))
        if version not in {2, 3} or pairs > MAX_PAIRS or tensors > MAX_PAIRS:
            raise NotGguf(f"{path.name} has GGUF version {version} with {pairs} pairs")
        try:
            metadata = {_text(file): _value(file, struct.unpack("<I", file.read(4))[0]) for _ in range(pairs)}
            metadata["general.tensor_elements"] = sum(_tensor_elements(file) for _ in range(tensors))
        except struct.error as cut:
            raise NotGguf(f"{path.name} is cut off") from cut
    return metadata


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > MAX_TEXT_BYTES:
        raise NotGguf("a text is too long")
    return file.read(length).decode(errors="replace")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind in _NUMBERS:
        code = "<" + _NUMBERS[kind]
        return struct.unpack(code, file.read(struct.calcsize(code)))[0]
    if kind == _TEXT:
        return _text(file)
    if kind != _ARRAY:
        raise NotGguf(f"unknown kind of value {kind}")
    item_kind, length = struct.unpack("<IQ", file.read(12))
    if length > MAX_ITEMS:
        raise NotGguf("an array is too long")
    if item_kind in _NUMBERS and length > KEPT_ITEMS:
        file.seek(length * struct.calcsize("<" + _NUMBERS[item_kind]), 1)
        return length
    items = [_value(file, item_kind) for _ in range(length)]
    return items if length <= KEPT_ITEMS else length


def _tensor_elements(file: BinaryIO) -> int:
    _text(file)
    (dimensions,) = struct.unpack("<I", file.read(4))
    if dimensions > 8:
        raise NotGguf("a tensor has too many dimensions")
    elements = 1
    for size in struct.unpack(f"<{dimensions}Q", file.read(8 * dimensions)):
        elements *= size
    file.read(12)
    return elements

"""Ids of things that are kept: a prefix and 128 bits, sortable by the time of their making.

The bits are a UUIDv7 (RFC 9562, 5.7); the text is Crockford's base 32, upper case, 26 characters, as ULID writes it.
A hold, the job it pays for and the transaction that resolves it share the same bits under different prefixes.
"""

import os
import time
import uuid

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_TEXT_LENGTH = 26


def new_uuid7() -> uuid.UUID:
    """Make a new UUIDv7: 48 bits of milliseconds since 1970, then 74 random bits."""
    value = int.from_bytes((time.time_ns() // 1_000_000).to_bytes(6) + os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def text_of(prefix: str, value: uuid.UUID) -> str:
    """Write an id as `prefix_` and 26 characters."""
    bits = value.int
    letters = [_ALPHABET[bits >> shift & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(letters)}"


def uuid_of(prefix: str, text: str) -> uuid.UUID:
    """Read back what `text_of` wrote.

    Raises:
        ValueError: The text is not an id with this prefix.
    """
    head, _, tail = text.partition("_")
    if head != prefix or len(tail) != _TEXT_LENGTH or tail[0] > "7":
        msg = f"`{text[:60]}` is not an id that starts with `{prefix}_`"
        raise ValueError(msg)
    bits = 0
    for letter in tail:
        if letter not in _VALUES:
            msg = f"`{text[:60]}` is not an id that starts with `{prefix}_`"
            raise ValueError(msg)
        bits = bits << 5 | _VALUES[letter]
    return uuid.UUID(int=bits)

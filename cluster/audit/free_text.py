"""Where a format leaves an answer free: inside the strings that are values of a JSON text. Pure.

Which tokens a format allows, each engine says by a grammar of its own; they differ in blanks, and a reference cannot begin one in mid-answer.
But whatever the grammar: a string of which the format says nothing may go on with any text that neither ends nor escapes it. So steps are
scored where the model would say such plain text almost for sure, and did say it: there the format changes nothing.
"""

import math
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

PLAIN_SHARE = 0.98  # of what the model would say
STRING_LIMITS = ("enum", "const", "pattern", "format", "maxLength")
NAMES_WITHIN = ("properties", "patternProperties", "$defs", "definitions")  # keywords whose keys are names
_SIGNS = re.compile(rb'"((?:[^"\\]|\\.)*)"?|[{}\[\],:]', re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_NOT_PLAIN = re.compile(r'["\\\x00-\x1f\x7f]')


class Told(NamedTuple):
    """A token that may come next, as a reference tells it: its log-probability in nats and its text."""

    token: int
    logprob: float
    text: bytes


def leaves_strings_free(form: Any) -> bool:
    """Whether a format, "json" or a JSON schema, says nothing of what a string holds."""
    return form == "json" or (isinstance(form, dict) and not any(name in one for one in _schemas(form) for name in STRING_LIMITS))


def _schemas(form: Any) -> Iterator[dict[str, Any]]:
    """Find a schema and all within it."""
    if isinstance(form, dict):
        yield form
        for name, value in form.items():
            yield from _schemas(list(value.values()) if name in NAMES_WITHIN and isinstance(value, dict) else value)
    elif isinstance(form, list):
        for one in form:
            yield from _schemas(one)


def free_places(texts: Sequence[bytes]) -> set[int]:
    """Tell which tokens of a JSON answer, by their texts, are plain and wholly within a free stretch."""
    answer = b"".join(texts)
    is_free = bytearray(len(answer))
    for start, stop in free_stretches(answer):
        is_free[start:stop] = b"\1" * (stop - start)
    ends = list(accumulate(map(len, texts)))
    return {n for n, (text, end) in enumerate(zip(texts, ends, strict=True)) if is_plain(text) and all(is_free[end - len(text) : end])}


def free_stretches(answer: bytes) -> Iterator[tuple[int, int]]:
    """Find what lies inside values' strings of a JSON text, whole or cut off: from one byte up to another, without escapes."""
    is_object: list[bool] = []  # of each level that is open
    is_key = False
    for sign in _SIGNS.finditer(answer):
        match sign.group()[:1]:
            case b'"':
                if not is_key:
                    yield from _without_escapes(sign.group(1), sign.start(1))
            case (b"{" | b"[") as opens:
                is_object.append(is_key := opens == b"{")
            case b"}" | b"]":
                del is_object[-1:]
            case b",":
                is_key = bool(is_object) and is_object[-1]
            case _:
                is_key = False


def _without_escapes(text: bytes, offset: int) -> Iterator[tuple[int, int]]:
    begin = 0
    for escape in _ESCAPE.finditer(text):
        yield offset + begin, offset + escape.start()
        if escape.group(1) == b"u":  # half of a surrogate pair asks for the other
            return
        begin = escape.end()
    yield offset + begin, offset + len(text)


def is_plain(text: bytes) -> bool:
    """Whether a token goes on with a string: whole characters, no quote, no escape, none that JSON does not take."""
    try:
        return bool(text) and not _NOT_PLAIN.search(text.decode())
    except UnicodeDecodeError:
        return False


def plain_of(told: Sequence[Told]) -> list[tuple[int, float]]:
    """Tell what a model would say given that it is plain text; nothing where that is not almost sure."""
    others = math.fsum(math.exp(one.logprob) for one in told if not is_plain(one.text))
    if others > 1 - PLAIN_SHARE:
        return []
    return [(one.token, one.logprob - math.log1p(-others)) for one in told if is_plain(one.text)]

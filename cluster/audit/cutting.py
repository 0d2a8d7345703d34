"""Finds the tokens that an answer was most likely written in, where penalties or a format keep a model from those that texts are usually cut into.

A model that would not say ` of` again says ` o`, then `f`. Scored as ` of`, both the token and all that is counted after it look wrong.
So a text is walked through: where a token that it might go on with is likelier than the usual one, and so is what follows, that one is taken.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple

from cluster.audit.free_text import Told


class Piece(NamedTuple):
    """A token and its text."""

    token: int
    text: bytes


Tell = Callable[[list[int]], Awaitable[Sequence[Told]]]  # the likeliest tokens after others, best first
Cut = Callable[[str], Awaitable[Sequence[Piece]]]  # a text into its usual tokens


async def walk(
    tell: Tell, cut: Cut, before: Sequence[int], pieces: Sequence[Piece], wanted: Collection[int]
) -> list[tuple[int, Sequence[Told]]]:
    """Walk through a text that is given in its usual pieces, behind other tokens.

    Answered are the token that was most likely said and what the model would have said in its place, at those of the text's bytes that are
    `wanted` and where a token begins.
    """
    text = b"".join(piece.text for piece in pieces)
    steps: list[tuple[int, Sequence[Told]]] = []
    said, left, at = list(before), list(pieces), 0
    while left:
        told = await tell(said)
        piece = left.pop(0)
        if (other := _likeliest(told, text[at:])) and other.token != piece.token:
            rest = await cut(text[at + len(other.text) :].decode(errors="ignore"))  # the end may break off in a character
            if await _follows(tell, said, told, piece, other, rest):
                piece, left = Piece(other.token, other.text), list(rest)
        if told and at in wanted:
            steps.append((piece.token, told))
        said.append(piece.token)
        at += len(piece.text)
    return steps


def _likeliest(told: Sequence[Told], text: bytes) -> Told | None:
    """Find the likeliest token that a text may begin with and that does not break off in a character of it."""
    return next((one for one in told if one.text and text.startswith(one.text) and _is_whole(text[len(one.text) :])), None)


def _is_whole(text: bytes) -> bool:
    return not text or text[0] & 0xC0 != 0x80  # UTF-8: no byte that goes on with a character


async def _follows(tell: Tell, said: list[int], told: Sequence[Told], usual: Piece, other: Told, rest: Sequence[Piece]) -> bool:
    """Whether another token, with what must follow it, is likelier than the usual one."""
    if not rest:
        return True
    after = _logprob(await tell([*said, other.token]), rest[0].token)
    return other.logprob + after > _logprob(told, usual.token)


def _logprob(told: Sequence[Told], token: int) -> float:
    return next((one.logprob for one in told if one.token == token), float("-inf"))
